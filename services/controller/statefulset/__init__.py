"""StatefulSet: numbered pods with names and volumes that stay, changed in order."""
