"""Health in sentences: the state, its cause, and the remedy. Figures in, words out."""
