"""What answers leave behind, off the path of requests: records, feedback, and what drift counts."""
