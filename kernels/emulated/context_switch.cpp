// switch_context(save, load): keeps the callee-saved registers on the stack, its pointer in *save, and goes on at the
// stack `load`. prepare_context makes a fresh stack that enters `entry`.
#include <cstddef>
#include <cstdint>
#include "context_switch.h"

#if defined(__x86_64__)
asm(R"(
.text
.globl songrnn_emulated_switch
.hidden songrnn_emulated_switch
.type songrnn_emulated_switch,@function
songrnn_emulated_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size songrnn_emulated_switch,.-songrnn_emulated_switch
.section .note.GNU-stack,"",@progbits
.text
)");

void* prepare_context(char* stack, size_t bytes, void (*entry)()) {
  void** top = reinterpret_cast<void**>(stack + bytes - 64);   // a multiple of 16
  top[-1] = nullptr;                                           // the return address of `entry`, never used
  top[-2] = reinterpret_cast<void*>(entry);
  for (int i = 3; i <= 8; ++i) top[-i] = nullptr;
  return top - 8;
}

#elif defined(__aarch64__)
asm(R"(
.text
.globl songrnn_emulated_switch
.hidden songrnn_emulated_switch
.type songrnn_emulated_switch,%function
songrnn_emulated_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size songrnn_emulated_switch,.-songrnn_emulated_switch
)");

void* prepare_context(char* stack, size_t bytes, void (*entry)()) {
  void** frame = reinterpret_cast<void**>(stack + bytes - 64 - 160);
  for (int i = 0; i < 20; ++i) frame[i] = nullptr;
  frame[11] = reinterpret_cast<void*>(entry);                  // x30
  return frame;
}

#else
#error "the kernel emulator switches stacks on x86-64 and aarch64: add this processor to context_switch.cpp"
#endif
