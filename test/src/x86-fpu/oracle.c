/*
 * Loads each floating-point image of standard input with XRSTOR64 and answers with what the processor then stores.
 * Input record: 832 bytes, an XSAVE image of x87, SSE and AVX.
 * Output record: u32 fault, u32 zero, then FXSAVE64 (512), FXSAVE (512), XSAVE64 (832), XSAVEC64 (832), each into memory filled with 0xa5.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static uint8_t in[896] __attribute__((aligned(64)));
static uint8_t own[4096] __attribute__((aligned(64)));
static struct {
  uint32_t fault, zero;
  uint8_t pad[56];
  uint8_t fx64[512], fx[512], xsave[832], xsavec[832];
} out __attribute__((aligned(64)));
static sigjmp_buf again;

static void faulted(int signal_number) {
  (void)signal_number;
  siglongjmp(again, 1);
}

int main(void) {
  signal(SIGSEGV, faulted);
  while (fread(in, 1, 832, stdin) == 832) {
    memset(&out, 0, 64);
    memset(out.fx64, 0xa5, sizeof out - 64);
    memset(out.xsave + 512, 0, 64);
    if (sigsetjmp(again, 1) == 0) {
      __asm__ volatile(
          "xsave64 %[own]\n\t"
          "xrstor64 %[in]\n\t"
          "fxsave64 %[fx64]\n\t"
          "fxsave %[fx]\n\t"
          "xsave64 %[xsave]\n\t"
          "xsavec64 %[xsavec]\n\t"
          "xrstor64 %[own]\n\t"
          : [own] "+m"(own), [fx64] "=m"(out.fx64), [fx] "=m"(out.fx), [xsave] "+m"(out.xsave), [xsavec] "=m"(out.xsavec)
          : [in] "m"(in), "a"(7), "d"(0)
          : "memory");
    } else {
      out.fault = 1;
    }
    fwrite(&out, 1, 8, stdout);
    fwrite(out.fx64, 1, 512 + 512 + 832 + 832, stdout);
  }
  return 0;
}
