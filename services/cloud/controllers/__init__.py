"""The cloud controller manager's controllers: nodes, services, routes; each over one work queue."""
