-- When this returns the checkpointer has read the reloaded configuration: only from then on do commits wait (R9).
CHECKPOINT
