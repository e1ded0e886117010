"""Alerts: what is wrong, who is told and how often. The SQL is in resources/store/alerts.py."""
