"""Detection of losses: a topic that was deleted and made anew, a log that lost its tail."""
