import { describe, expect, it } from 'vitest';
import { DoorbellFlags, DoorbellPage, DoorbellVmpl } from './doorbell.ts';
import { buildVmsa, VintrCtrl, Vmsa, VMSA_SIZE, VmsaEvent, VmsaExitSentinel, VmsaSegment } from './vmsa.ts';
import { BSP_EIP, coconutGuestVmsa, ec2Vmsa, edk2ApVmsa, gceVmsa, kvmVmsa, linuxApVmsa, svsmVmsa } from './vmsa-states.ts';

/** Offset and bytes of every field that is not reserved, typed by hand from the table of the manual. */
const table: Readonly<Record<string, readonly [offset: number, size: number]>> = {
  es: [0x000, 16], cs: [0x010, 16], ss: [0x020, 16], ds: [0x030, 16], fs: [0x040, 16], gs: [0x050, 16], gdtr: [0x060, 16], ldtr: [0x070, 16], idtr: [0x080, 16], tr: [0x090, 16],
  pl0Ssp: [0x0a0, 8], pl1Ssp: [0x0a8, 8], pl2Ssp: [0x0b0, 8], pl3Ssp: [0x0b8, 8], uCet: [0x0c0, 8], vmpl: [0x0ca, 1], cpl: [0x0cb, 1], efer: [0x0d0, 8],
  xss: [0x140, 8], cr4: [0x148, 8], cr3: [0x150, 8], cr0: [0x158, 8], dr7: [0x160, 8], dr6: [0x168, 8], rflags: [0x170, 8], rip: [0x178, 8],
  dr0: [0x180, 8], dr1: [0x188, 8], dr2: [0x190, 8], dr3: [0x198, 8], dr0Mask: [0x1a0, 8], dr1Mask: [0x1a8, 8], dr2Mask: [0x1b0, 8], dr3Mask: [0x1b8, 8],
  rsp: [0x1d8, 8], sCet: [0x1e0, 8], ssp: [0x1e8, 8], interruptSspTable: [0x1f0, 8], rax: [0x1f8, 8],
  star: [0x200, 8], lstar: [0x208, 8], cstar: [0x210, 8], sfmask: [0x218, 8], kernelGsBase: [0x220, 8], sysenterCs: [0x228, 8], sysenterEsp: [0x230, 8], sysenterEip: [0x238, 8], cr2: [0x240, 8],
  pat: [0x268, 8], debugCtl: [0x270, 8], brFrom: [0x278, 8], brTo: [0x280, 8], lastExceptionFrom: [0x288, 8], lastExceptionTo: [0x290, 8],
  specCtrl: [0x2e0, 8], pkru: [0x2e8, 4], tscAux: [0x2ec, 4], guestTscScale: [0x2f0, 8], guestTscOffset: [0x2f8, 8], regProtNonce: [0x300, 8],
  rcx: [0x308, 8], rdx: [0x310, 8], rbx: [0x318, 8], secureAvicControl: [0x320, 8], rbp: [0x328, 8], rsi: [0x330, 8], rdi: [0x338, 8],
  r8: [0x340, 8], r9: [0x348, 8], r10: [0x350, 8], r11: [0x358, 8], r12: [0x360, 8], r13: [0x368, 8], r14: [0x370, 8], r15: [0x378, 8],
  exitInfo1: [0x390, 8], exitInfo2: [0x398, 8], exitIntInfo: [0x3a0, 8], nrip: [0x3a8, 8], sevFeatures: [0x3b0, 8], vintrCtrl: [0x3b8, 8], exitCode: [0x3c0, 8], virtualTom: [0x3c8, 8],
  tlbId: [0x3d0, 8], pcpuId: [0x3d8, 8], eventInj: [0x3e0, 8], xcr0: [0x3e8, 8],
  x87Dp: [0x400, 8], mxcsr: [0x408, 4], x87Ftw: [0x40c, 2], x87Fsw: [0x40e, 2], x87Fcw: [0x410, 2], x87Fop: [0x412, 2], x87Ds: [0x414, 2], x87Cs: [0x416, 2], x87Rip: [0x418, 8],
  fpregX87: [0x420, 80], fpregXmm: [0x470, 256], fpregYmm: [0x570, 256],
  lbrStack: [0x670, 256], lbrSelect: [0x770, 8], ibsFetchCtl: [0x778, 8], ibsFetchLinAddr: [0x780, 8], ibsOpCtl: [0x788, 8], ibsOpRip: [0x790, 8],
  ibsOpData: [0x798, 8], ibsOpData2: [0x7a0, 8], ibsOpData3: [0x7a8, 8], ibsDcLinAddr: [0x7b0, 8], bpIbsTgtRip: [0x7b8, 8], icIbsExtdCtl: [0x7c0, 8],
};

/** [first, behind the last) of the reserved bytes. */
const reserved: readonly (readonly [from: number, to: number])[] = [[0x0c8, 0x0ca], [0x0cc, 0x0d0], [0x0d8, 0x140], [0x1c0, 0x1d8], [0x248, 0x268], [0x298, 0x2e0], [0x380, 0x390], [0x3f0, 0x400], [0x7c8, 0x1000]];

describe('the save area', () => {
  const fields = Object.entries(Vmsa.fields);
  it('is one page', () => expect([Vmsa.size, VMSA_SIZE]).toEqual([4096, 4096]));
  it('has the fields of the table at their offsets', () => {
    const named = fields.filter(([name]) => !name.startsWith('reserved')).map(([name, [offset, layout]]) => [name, [offset, layout.size]]);
    expect(Object.fromEntries(named)).toEqual(table);
  });
  it('reserves what the table reserves', () => {
    const holes = fields.filter(([name]) => name.startsWith('reserved')).map(([, [offset, layout]]) => [offset, offset + layout.size]);
    expect(holes).toEqual(reserved);
  });
  it('has segments of selector, attributes, limit and base', () => expect([VmsaSegment.size, VmsaSegment.at]).toEqual([16, { selector: 0, attributes: 2, limit: 4, base: 8 }]));
});

describe('control words', () => {
  it('VINTR_CTRL', () =>
    expect(VintrCtrl.pack({ tpr: 0xf, irq: true, gif: true, interruptShadow: true, nmi: true, nmiMask: true, priority: 0xa, ignoreTpr: true, nmiEnable: true, vector: 0xa5, busy: true })).toBe(
      0xfn | (0x1fn << 8n) | (0xan << 16n) | (1n << 20n) | (1n << 26n) | (0xa5n << 32n) | (1n << 63n),
    ));
  it('EVENT_INJ of #GP(0x18)', () => expect(VmsaEvent.pack({ vector: 13, type: 3, errorCodeValid: true, valid: true, errorCode: 0x18 })).toBe(0x18_8000_0b0dn));
  it('sentinels', () => expect(VmsaExitSentinel).toEqual({ Invalid: -1, Busy: -2, IdleRequired: -3, InvalidPmc: -4 }));
});

describe('the doorbell page', () => {
  it('begins with vector, flags, EOI hint and VMPLs', () => {
    const { software: _, reserved004: __, ...named } = DoorbellPage.at;
    expect([DoorbellPage.size, named]).toEqual([4096, { vector: 0, flags: 1, noEoiRequired: 2, perVmpl: 3, vmpl1: 0x40, vmpl2: 0x80, vmpl3: 0xc0 }]);
  });
  it('has NoFurtherSignal as bit 15 of the first word', () => expect([DoorbellFlags.mask.nmi, DoorbellFlags.mask.machineCheck, DoorbellFlags.mask.noFurtherSignal << 8]).toEqual([1, 2, 0x8000]));
  it('describes each lower VMPL in 64 bytes', () => {
    expect(DoorbellVmpl.at).toEqual({ status: 0, irr: 4, isr: 32 });
    expect(DoorbellVmpl.fields.status[1].pack({ vector: 0x33, nmi: true, machineCheck: true, level: true, multipleVectors: true, ipiRequested: true, vector31: true })).toBe(0x8800_4733);
  });
});

const start = { eip: BSP_EIP, vmpl: 0, sevFeatures: 1n };
const words = (page: Uint8Array, offset: number, count: number): string => [...page.slice(offset, offset + count)].reverse().map((b) => b.toString(16).padStart(2, '0')).join('');
/** Selector, attributes, limit, base. */
const segmentOf = (page: Uint8Array, offset: number): string => [words(page, offset, 2), words(page, offset + 2, 2), words(page, offset + 4, 4), words(page, offset + 8, 8)].map((h) => BigInt(`0x${h}`).toString(16)).join('/');

describe('states that creators give a save area', () => {
  it('KVM under QEMU, boot processor', () => {
    const page = buildVmsa(kvmVmsa(start, 0x80_0f12));
    expect(segmentOf(page, 0x010)).toBe('f000/9b/ffff/ffff0000');
    for (const at of [0x000, 0x020, 0x030, 0x040, 0x050]) expect(segmentOf(page, at)).toBe('0/93/ffff/0');
    expect([segmentOf(page, 0x060), segmentOf(page, 0x080), segmentOf(page, 0x070), segmentOf(page, 0x090)]).toEqual(['0/0/ffff/0', '0/0/ffff/0', '0/82/ffff/0', '0/8b/ffff/0']);
    const eight = (at: number): string => BigInt(`0x${words(page, at, 8)}`).toString(16);
    const values = { efer: eight(0xd0), cr0: eight(0x158), cr4: eight(0x148), dr6: eight(0x168), dr7: eight(0x160), rflags: eight(0x170), rip: eight(0x178), rdx: eight(0x310), pat: eight(0x268), xcr0: eight(0x3e8), features: eight(0x3b0) };
    expect(values).toEqual({ efer: '1000', cr0: '10', cr4: '40', dr6: 'ffff0ff0', dr7: '400', rflags: '2', rip: 'fff0', rdx: '800f12', pat: '7040600070406', xcr0: '1', features: '1' });
    expect([words(page, 0x408, 4), words(page, 0x410, 2), words(page, 0x40c, 2)]).toEqual(['00001f80', '037f', '0000']);
  });
  it('nothing else is set by it', () => {
    const page = buildVmsa(kvmVmsa(start, 1));
    const set = [...page.keys()].filter((i) => page[i] !== 0);
    const allowed = ['es', 'cs', 'ss', 'ds', 'fs', 'gs', 'gdtr', 'idtr', 'ldtr', 'tr', 'efer', 'cr0', 'cr4', 'dr6', 'dr7', 'rflags', 'rip', 'rdx', 'pat', 'xcr0', 'sevFeatures', 'mxcsr', 'x87Fcw'].map((n) => table[n]!);
    expect(set.filter((i) => !allowed.some(([o, s]) => i >= o && i < o + s))).toEqual([]);
  });
  it('KVM under QEMU, application processor: the reset block gives EIP', () => {
    const page = buildVmsa(kvmVmsa({ ...start, eip: 0x80_b004 }, 0));
    expect([segmentOf(page, 0x010), words(page, 0x178, 8)]).toEqual(['f000/9b/ffff/800000', '000000000000b004']);
  });
  it('Linux, another processor', () => {
    const page = buildVmsa(linuxApVmsa({ vmpl: 2, sevFeatures: 0x21n, start: 0x9_a123, mce: true }));
    expect([segmentOf(page, 0x010), segmentOf(page, 0x030), segmentOf(page, 0x070), segmentOf(page, 0x090)]).toEqual(['9a00/9a/ffff/9a000', '0/92/ffff/0', '0/82/ffff/0', '0/83/ffff/0']);
    expect([page[0xca], words(page, 0x178, 2), words(page, 0x158, 4), words(page, 0x148, 4), words(page, 0x410, 2), words(page, 0x40c, 2), words(page, 0x3b0, 8)]).toEqual([2, '0123', '60000010', '00000040', '0040', '5555', '0000000000000021']);
  });
  it('EDK2, another processor: TR attributes 0, LDTR type 3', () => {
    const page = buildVmsa(edk2ApVmsa({ vmpl: 0, sevFeatures: 1n, start: 0x8_7000, mce: false }, 0x4000_0000));
    expect([segmentOf(page, 0x070), segmentOf(page, 0x090), words(page, 0x158, 4), words(page, 0x148, 4)]).toEqual(['0/83/ffff/0', '0/0/ffff/0', '40000010', '00000000']);
  });
  it('COCONUT, its guest: not yet enabled', () => {
    const page = buildVmsa(coconutGuestVmsa({ eip: BSP_EIP, vmpl: 2, sevFeatures: 1n }));
    expect([page[0xca], words(page, 0xd0, 8), words(page, 0x148, 8), words(page, 0x158, 4), segmentOf(page, 0x090)]).toEqual([2, '0000000000000000', '0000000000000000', '60000010', '0/8b/ffff/0']);
  });
  it('an SVSM image begins in flat 32-bit mode', () => {
    const page = buildVmsa(svsmVmsa({ ...start, eip: 0x80_0000 }, 0));
    expect([segmentOf(page, 0x010), segmentOf(page, 0x020), words(page, 0x158, 8), words(page, 0x178, 8)]).toEqual(['8/c9b/ffffffff/0', '10/c93/ffffffff/0', '0000000000000011', '0000000000800000']);
  });
  it('other hosts measure other states', () => {
    const ec2 = buildVmsa(ec2Vmsa(start));
    const gce = buildVmsa(gceVmsa(start));
    expect([segmentOf(ec2, 0x010), segmentOf(ec2, 0x020), segmentOf(ec2, 0x090), words(ec2, 0x310, 2), words(ec2, 0x408, 4), words(ec2, 0x410, 2)]).toEqual(['f000/9a/ffff/ffff0000', '0/92/ffff/0', '0/83/ffff/0', '0600', '00000000', '0000']);
    expect([segmentOf(gce, 0x010), words(gce, 0x268, 8), words(gce, 0x310, 2), words(gce, 0x408, 4)]).toEqual(['f000/9b/ffff/ffff0000', '0000000000070106', '0600', '00000000']);
  });
  it('a value that does not fit is refused', () => expect(() => buildVmsa({ vmpl: 256 })).toThrow(RangeError));
});
