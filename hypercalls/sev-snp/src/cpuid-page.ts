import { array, bytes, struct, u32, u64 } from '@vmplanes/binary';

/** Functions in one table. @spec SNP ABI, CPUID page */
export const CPUID_FUNCTION_MAX = 64;

/** One function: what is asked and what is answered. @spec SNP ABI, CPUID_FUNCTION */
export const CpuidFunction = struct('CpuidFunction', 'SNP ABI, CPUID_FUNCTION structure', 48, {
  eaxIn: [0x00, u32, 'leaf'],
  ecxIn: [0x04, u32, 'sub-leaf'],
  xcr0In: [0x08, u64, 'leaf 0DH: enabled components'],
  xssIn: [0x10, u64, 'leaf 0DH: enabled supervisor components'],
  eax: [0x18, u32],
  ebx: [0x1c, u32],
  ecx: [0x20, u32],
  edx: [0x24, u32],
  reserved28: [0x28, u64],
});

/** The page of CPUID results that the firmware has checked. @spec SNP ABI, CPUID page */
export const CpuidPage = struct('CpuidPage', 'SNP ABI, CPUID page', 4096, {
  count: [0x000, u32, 'functions in use'],
  reserved004: [0x004, bytes(12)],
  functions: [0x010, array(CpuidFunction, CPUID_FUNCTION_MAX)],
  reservedC10: [0xc10, bytes(0x3f0)],
});
