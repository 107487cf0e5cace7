"""Pictures of graphs, of what they hold in memory, and of results."""
