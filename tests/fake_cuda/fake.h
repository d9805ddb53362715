// What the fake libraries share.
#pragma once
#include <stddef.h>

// Appends work to the fake stream, or to the capture that is under way on it; `data` is copied. Returns a CUresult.
int fake_enqueue(void *stream, int (*run)(void *data), const void *data, size_t size);

// For a call that may wait for the device or allocate: an error during a capture, which it breaks, and when the device
// is broken. Returns a CUresult.
int fake_unsafe_call(void);

// Whether [memory, memory + size) lies in one allocation. Only for work that runs.
int fake_is_device(const void *memory, size_t size);
