// What the fake libraries share.
#pragma once
#include <stddef.h>

// Appends work to the fake stream, or to the capture that is under way on it; `data` is copied. Returns a CUresult.
int fake_enqueue(void *stream, int (*run)(void *data), const void *data, size_t size);
