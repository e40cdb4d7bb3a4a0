"""Service levels: a file of objectives becomes rules, routes of alerts, and dashboards."""
