"""From a query to ranked, explained memories."""
