"""The recurrence of a diagonal state-space layer, with a kernel for each device."""
