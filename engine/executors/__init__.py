"""The executors: each is handed a token, its row and the state, and returns events. None of them writes anything."""
