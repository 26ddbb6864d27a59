/* For each pair of hexadecimal numbers on standard input (leaf, sub-leaf) prints EAX, EBX, ECX and EDX of CPUID, in hexadecimal. */
#include <cpuid.h>
#include <stdio.h>

int main(void) {
  unsigned leaf, subleaf, a, b, c, d;
  while (scanf("%x %x", &leaf, &subleaf) == 2) {
    a = b = c = d = 0;
    if (leaf <= __get_cpuid_max(leaf & 0x80000000u, 0)) __cpuid_count(leaf, subleaf, a, b, c, d);
    printf("%x %x %x %x\n", a, b, c, d);
  }
  return 0;
}
