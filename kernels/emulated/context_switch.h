#pragma once
#include <cstddef>

extern "C" void songrnn_emulated_switch(void** save, void* load);
void* prepare_context(char* stack, size_t bytes, void (*entry)());
