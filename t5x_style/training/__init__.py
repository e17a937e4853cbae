"""Training: the configuration of a run, its state, the loss, the step, the loop, evaluation."""
