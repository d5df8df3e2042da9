"""What everything else stands on: data types, interfaces, errors, settings and arithmetic."""
