"""`swath`: one file a command group; parses, loads, calls, prints. Nothing else prints."""
