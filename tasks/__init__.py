"""
The deployment's own work. What is imported here is what the workers know.
"""

from tasks import email, images, maintenance, reports, webhooks

__all__ = ["email", "images", "maintenance", "reports", "webhooks"]
