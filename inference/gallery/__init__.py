"""Pictures of a fitted pair."""
