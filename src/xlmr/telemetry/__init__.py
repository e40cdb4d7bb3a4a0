"""What the other parts report: metrics and logs. Knows no text, no model and no request."""
