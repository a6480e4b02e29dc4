"""What happened: events, the names that they travel under, and how they are written down."""
