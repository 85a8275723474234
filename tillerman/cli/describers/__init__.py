"""What `describe` says of each kind: functions from object and session to a Page, found by kind."""
