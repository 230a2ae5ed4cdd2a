"""What is kept: organizations, users, credentials, policies, dialing lists, calls, decisions, recordings."""
