import { bits, bytes, type Inputs, struct, u16, u32, u64, u8 } from '@vmplanes/binary';

const TABLE = 'APM vol. 2, Table B-4';

/** Bytes of a save area: one page, one per processor and VMPL. */
export const VMSA_SIZE = 0x1000;

/** A segment as the save area holds it. The limit is in bytes. @spec APM vol. 2, Table B-4 */
export const VmsaSegment = struct('VmsaSegment', TABLE, 16, {
  selector: [0x0, u16],
  attributes: [0x2, u16, 'type, S, DPL, P in bits 7:0; AVL, L, D/B, G in bits 11:8'],
  limit: [0x4, u32, 'descriptor tables use the low 16 bits'],
  base: [0x8, u64],
});

/**
 * The save area of one VMPL of one processor. The processor fills it at an exit and takes it up at an entry; names with
 * `reserved` are written zero by who creates the page and kept by the processor.
 * @spec APM vol. 2, Table B-4
 */
export const Vmsa = struct('Vmsa', TABLE, VMSA_SIZE, {
  es: [0x000, VmsaSegment],
  cs: [0x010, VmsaSegment],
  ss: [0x020, VmsaSegment, 'its DPL is not the CPL'],
  ds: [0x030, VmsaSegment],
  fs: [0x040, VmsaSegment],
  gs: [0x050, VmsaSegment],
  gdtr: [0x060, VmsaSegment, 'limit and base alone'],
  ldtr: [0x070, VmsaSegment],
  idtr: [0x080, VmsaSegment, 'limit and base alone'],
  tr: [0x090, VmsaSegment],
  pl0Ssp: [0x0a0, u64],
  pl1Ssp: [0x0a8, u64],
  pl2Ssp: [0x0b0, u64],
  pl3Ssp: [0x0b8, u64],
  uCet: [0x0c0, u64],
  reserved0c8: [0x0c8, bytes(2)],
  vmpl: [0x0ca, u8, 'never changed by the processor'],
  cpl: [0x0cb, u8],
  reserved0cc: [0x0cc, bytes(4)],
  efer: [0x0d0, u64, 'SVME (bit 12) must be set for an entry'],
  reserved0d8: [0x0d8, bytes(0x68)],
  xss: [0x140, u64],
  cr4: [0x148, u64],
  cr3: [0x150, u64],
  cr0: [0x158, u64],
  dr7: [0x160, u64],
  dr6: [0x168, u64],
  rflags: [0x170, u64],
  rip: [0x178, u64],
  dr0: [0x180, u64, 'with debug swap, as to DR3_ADDR_MASK'],
  dr1: [0x188, u64],
  dr2: [0x190, u64],
  dr3: [0x198, u64],
  dr0Mask: [0x1a0, u64],
  dr1Mask: [0x1a8, u64],
  dr2Mask: [0x1b0, u64],
  dr3Mask: [0x1b8, u64],
  reserved1c0: [0x1c0, bytes(0x18)],
  rsp: [0x1d8, u64],
  sCet: [0x1e0, u64],
  ssp: [0x1e8, u64],
  interruptSspTable: [0x1f0, u64],
  rax: [0x1f8, u64],
  star: [0x200, u64],
  lstar: [0x208, u64],
  cstar: [0x210, u64],
  sfmask: [0x218, u64],
  kernelGsBase: [0x220, u64],
  sysenterCs: [0x228, u64],
  sysenterEsp: [0x230, u64],
  sysenterEip: [0x238, u64],
  cr2: [0x240, u64],
  reserved248: [0x248, bytes(0x20)],
  pat: [0x268, u64],
  debugCtl: [0x270, u64],
  brFrom: [0x278, u64],
  brTo: [0x280, u64],
  lastExceptionFrom: [0x288, u64],
  lastExceptionTo: [0x290, u64],
  reserved298: [0x298, bytes(0x48)],
  specCtrl: [0x2e0, u64],
  pkru: [0x2e8, u32],
  tscAux: [0x2ec, u32],
  guestTscScale: [0x2f0, u64, 'secure TSC: 8.32 fixed point'],
  guestTscOffset: [0x2f8, u64, 'secure TSC'],
  regProtNonce: [0x300, u64],
  rcx: [0x308, u64],
  rdx: [0x310, u64],
  rbx: [0x318, u64],
  secureAvicControl: [0x320, u64, 'bit 0 enable, bit 1 NMIs allowed, page from bit 12; reserved without secure AVIC'],
  rbp: [0x328, u64],
  rsi: [0x330, u64],
  rdi: [0x338, u64],
  r8: [0x340, u64],
  r9: [0x348, u64],
  r10: [0x350, u64],
  r11: [0x358, u64],
  r12: [0x360, u64],
  r13: [0x368, u64],
  r14: [0x370, u64],
  r15: [0x378, u64],
  reserved380: [0x380, bytes(0x10)],
  exitInfo1: [0x390, u64, 'of the last exit'],
  exitInfo2: [0x398, u64],
  exitIntInfo: [0x3a0, u64, 'event on its way into the guest when it left, see VmsaEvent'],
  nrip: [0x3a8, u64, 'next RIP'],
  sevFeatures: [0x3b0, u64, 'constant while the page is a save area'],
  vintrCtrl: [0x3b8, u64, 'see VintrCtrl'],
  exitCode: [0x3c0, u64, 'of the last exit'],
  virtualTom: [0x3c8, u64, 'below it addresses are private'],
  tlbId: [0x3d0, u64],
  pcpuId: [0x3d8, u64, '0 asks for a flush at the next entry'],
  eventInj: [0x3e0, u64, 'see VmsaEvent; consumed at an entry'],
  xcr0: [0x3e8, u64],
  reserved3f0: [0x3f0, bytes(0x10)],
  x87Dp: [0x400, u64],
  mxcsr: [0x408, u32],
  x87Ftw: [0x40c, u16, 'full tag word'],
  x87Fsw: [0x40e, u16],
  x87Fcw: [0x410, u16],
  x87Fop: [0x412, u16],
  x87Ds: [0x414, u16],
  x87Cs: [0x416, u16],
  x87Rip: [0x418, u64],
  fpregX87: [0x420, bytes(0x50), 'eight significands of 8 bytes, then eight sign and exponent words'],
  fpregXmm: [0x470, bytes(0x100)],
  fpregYmm: [0x570, bytes(0x100), 'upper halves'],
  lbrStack: [0x670, bytes(0x100)],
  lbrSelect: [0x770, u64],
  ibsFetchCtl: [0x778, u64],
  ibsFetchLinAddr: [0x780, u64],
  ibsOpCtl: [0x788, u64],
  ibsOpRip: [0x790, u64],
  ibsOpData: [0x798, u64],
  ibsOpData2: [0x7a0, u64],
  ibsOpData3: [0x7a8, u64],
  ibsDcLinAddr: [0x7b0, u64],
  bpIbsTgtRip: [0x7b8, u64],
  icIbsExtdCtl: [0x7c0, u64],
  reserved7c8: [0x7c8, bytes(0x838)],
});

/** Virtual interrupt control; read by the processor only under alternate injection. @spec APM vol. 2, 15.36.16 */
export const VintrCtrl = bits('VintrCtrl', 'APM vol. 2, 15.36.16', 64, {
  tpr: [0, 8, 'task priority class, in the low nibble'],
  irq: [8, 'virtual interrupt pending'],
  gif: [9, 'global interrupt flag'],
  interruptShadow: [10, 'after STI or MOV SS'],
  nmi: [11, 'virtual NMI pending'],
  nmiMask: [12, 'NMI in service'],
  priority: [16, 4, 'of the pending vector'],
  ignoreTpr: 20,
  nmiEnable: 26,
  vector: [32, 8],
  busy: [63, 'set at an exit; software clears it before the next entry'],
});

/** Kinds of events in {@link VmsaEvent}. */
export const VmsaEventType = { External: 0, Nmi: 2, Exception: 3, Software: 4 } as const;
export type VmsaEventType = (typeof VmsaEventType)[keyof typeof VmsaEventType];

/** An event to be injected, or that was on its way at an exit: EVENT_INJ, GUEST_EXITINTINFO, exceptions told through a GHCB. @spec APM vol. 2, 15.20 */
export const VmsaEvent = bits('VmsaEvent', 'APM vol. 2, 15.20', 64, {
  vector: [0, 8],
  type: [8, 3, 'see VmsaEventType'],
  errorCodeValid: 11,
  valid: 31,
  errorCode: [32, 32],
});

/** Exit codes that say why an entry failed; 64-bit two's complement. @spec APM vol. 2, Appendix C */
export const VmsaExitSentinel = { Invalid: -1, Busy: -2, IdleRequired: -3, InvalidPmc: -4 } as const;
export type VmsaExitSentinel = (typeof VmsaExitSentinel)[keyof typeof VmsaExitSentinel];

/** Secure virtual machine enable: a save area without it is parked. */
export const EFER_SVME = 0x1000;

/** Values of a save area; a field that is left out is zero. */
export type VmsaValues = Partial<Inputs<typeof Vmsa.fields>>;

/** Makes the page of a save area. @throws {RangeError} when a value does not fit its field. */
export const buildVmsa = (values: VmsaValues): Uint8Array => {
  const page = new Uint8Array(VMSA_SIZE);
  const view = new DataView(page.buffer);
  for (const [name, value] of Object.entries(values)) {
    const [offset, layout] = Vmsa.fields[name as keyof typeof Vmsa.fields];
    layout.write(view, offset, value as never);
  }
  return page;
};
