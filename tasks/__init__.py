"""
The deployment's own work. What is imported here is what the workers know.
"""

from tasks import backups, email, images, maintenance, reports, webhooks

__all__ = ["backups", "email", "images", "maintenance", "reports", "webhooks"]
