"""What answers leave behind: records, and labels that come later; of texts no more than allowed."""
