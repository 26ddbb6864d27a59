import { HV_VECTOR, LAUNCH_VMSA_GPA, SevFeature, Vmsa, VmsaEvent, VmsaExitSentinel, VmsaSegment, type VmsaValues } from '@vmplanes/abi-sev-snp';
import { Activity, HostError, PAGE_SIZE, Schedule } from '@vmplanes/engine';
import { EntryRefusal, sentinelOf } from '@vmplanes/personality-sev-snp-vmpl';
import { readRegister, type RegisterName, type Step, writeRegister, x86ContextLayout } from '@vmplanes/x86';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { C, GHCB_MSR, runVmpl, SNP, VmplRig, type VmplRigOptions, vmsaOf } from './vmpl-rig.ts';

const hlt: Step = { op: 'hlt' };
const bit = (n: number): bigint => 1n << BigInt(n);

/** VMPL0 runs VMPL2 once and sleeps when it comes back. */
const caller: readonly Step[] = [...runVmpl(2), { op: 'rdmsr', index: GHCB_MSR }, hlt];
const two = (lower: readonly Step[], options: VmplRigOptions = {}): VmplRig => new VmplRig({ programs: [{ 0: caller, 2: lower }], vmsas: [0, 2], ...options });

describe('state in the save area', () => {
  // Offsets from the table of the manual, values that tell them apart.
  const cells: readonly (readonly [offset: number, register: RegisterName])[] = [
    [0x1f8, 'rax'], [0x308, 'rcx'], [0x310, 'rdx'], [0x318, 'rbx'], [0x1d8, 'rsp'], [0x328, 'rbp'], [0x330, 'rsi'], [0x338, 'rdi'], [0x340, 'r8'], [0x348, 'r9'], [0x350, 'r10'], [0x358, 'r11'], [0x360, 'r12'],
    [0x368, 'r13'], [0x370, 'r14'], [0x378, 'r15'], [0x0a0, 'pl0Ssp'], [0x0a8, 'pl1Ssp'], [0x0b0, 'pl2Ssp'], [0x0b8, 'pl3Ssp'], [0x0c0, 'uCet'], [0x140, 'xss'], [0x150, 'cr3'], [0x1e0, 'sCet'], [0x1e8, 'ssp'], [0x1f0, 'interruptSspTable'],
    [0x200, 'star'], [0x208, 'lstar'], [0x210, 'cstar'], [0x218, 'sfmask'], [0x220, 'kernelGsBase'], [0x228, 'sysenterCs'], [0x230, 'sysenterEsp'], [0x238, 'sysenterEip'], [0x240, 'cr2'], [0x268, 'pat'],
    [0x270, 'debugCtl'], [0x278, 'lastBranchFrom'], [0x280, 'lastBranchTo'], [0x288, 'lastExceptionFrom'], [0x290, 'lastExceptionTo'], [0x400, 'x87.dp'], [0x418, 'x87.rip'], [0x178, 'rip'],
  ];
  it.each(cells)('offset %i is %s, at the exit and at the entry (APM vol. 2, Table B-4)', (offset, register) => {
    const value = 0x1234_5678_9000n + BigInt(offset);
    const rig = two([{ op: 'work' }, ...runVmpl(0), hlt], { vmsa: (_vp, vmpl) => (vmpl === 2 ? {} : {}) });
    rig.poke(vmsaOf(0, 2) + offset, value);
    rig.run();
    // Three instructions of one byte moved RIP, and nothing else changed.
    const moved = register === 'rip' ? 3n : 0n;
    expect([readRegister(rig.machine.arena, rig.context(0, 2).base, register), rig.peek(vmsaOf(0, 2) + offset)]).toEqual([value + moved, value + moved]);
  });
  it.each([['es', 0x000], ['cs', 0x010], ['ss', 0x020], ['ds', 0x030], ['fs', 0x040], ['gs', 0x050], ['ldtr', 0x070], ['tr', 0x090]] as const)('segment %s (APM vol. 2, Table B-4)', (name, offset) => {
    const rig = two([...runVmpl(0), hlt]);
    const at = vmsaOf(0, 2) + offset;
    rig.poke(at, 0x1_2345_0893_0bb8n);
    rig.poke(at + 8, 0xffff_8000_1234_5678n);
    rig.run();
    const got = (['selector', 'attributes', 'limit', 'base'] as const).map((part) => rig.get(`${name}.${part}`, 0, 2));
    expect(got).toEqual([0xbb8n, 0x893n, 0x1_2345n, 0xffff_8000_1234_5678n]);
    expect([rig.peek(at), rig.peek(at + 8), VmsaSegment.size]).toEqual([0x1_2345_0893_0bb8n, 0xffff_8000_1234_5678n, 16]);
  });
  it('descriptor tables: limit and base alone; the CPL has its own byte, the VMPL stays (APM vol. 2, Table B-4)', () => {
    const rig = two([...runVmpl(0), hlt]);
    rig.poke(vmsaOf(0, 2) + 0x60, 0xabcd_1234_7777_8888n);
    rig.poke(vmsaOf(0, 2) + 0x68, 0x9000n);
    rig.putByte(vmsaOf(0, 2) + 0xcb, 3, true);
    rig.run();
    expect([rig.get('gdtr.limit', 0, 2), rig.get('gdtr.base', 0, 2), rig.get('cpl', 0, 2)]).toEqual([0x1234n, 0x9000n, 3n]);
    expect([rig.peek(vmsaOf(0, 2) + 0x60) & 0xffff_ffffn, rig.byte(vmsaOf(0, 2) + 0xca, true), rig.byte(vmsaOf(0, 2) + 0xcb, true)]).toEqual([0x7777_8888n, 2, 3]);
  });
  it('the upper halves of vector registers and the split x87 registers (Linux arch/x86/kvm/svm/sev.c)', () => {
    const rig = two([...runVmpl(0), hlt]);
    rig.poke(vmsaOf(0, 2) + 0x470 + 16 * 15, 0xaaaan);
    rig.poke(vmsaOf(0, 2) + 0x570, 0xbbbbn);
    rig.poke(vmsaOf(0, 2) + 0x420 + 8 * 3, 0x8000_0000_0000_1111n);
    rig.poke(vmsaOf(0, 2) + 0x460, 0x4003_0000_0000_0000n);
    rig.run();
    expect([rig.get('xmm15', 0, 2), rig.get('ymmHigh0', 0, 2), rig.get('st3', 0, 2)]).toEqual([0xaaaan, 0xbbbbn, 0x4003_8000_0000_0000_1111n]);
    expect([rig.get('xmm15'), rig.get('ymmHigh0'), rig.get('st3')]).toEqual([0n, 0n, 0n]);
  });
  it.each([0, 0x5555])('accepts tag word %i, stores the full form (Linux AP, EDK2 and KVM write different ones)', (tags) => {
    const rig = two([...runVmpl(0), hlt], { vmsa: (_vp, vmpl) => (vmpl === 2 ? { x87Ftw: tags } : {}) });
    rig.run();
    expect((rig.peek(vmsaOf(0, 2) + 0x408) >> 32n) & 0xffffn).toBe(0x5555n);
  });
  it('exit code and next RIP of a VMGEXIT; the exit code stays untouched before the first exit (APM vol. 2, 15.35.5)', () => {
    const rig = two([{ op: 'work' }, ...runVmpl(0), hlt], { vmsa: (_vp, vmpl) => (vmpl === 2 ? { exitCode: 0x60n } : {}) });
    expect(rig.field('exitCode', 0, 2)).toBe(0x60n);
    rig.run();
    expect([rig.field('exitCode', 0, 2), rig.field('rip', 0, 2), rig.field('nrip', 0, 2), rig.field('exitIntInfo', 0, 2)]).toEqual([0x403n, 0x1003n, 0x1003n, 0n]);
  });
  it('an HLT is an exit 0x78 behind the instruction (APM vol. 2, 15.35.4)', () => {
    const rig = two([hlt]);
    rig.run();
    expect([rig.field('exitCode', 0, 2), rig.field('rip', 0, 2)]).toEqual([0x78n, 0x1001n]);
  });
  it('what ends a run without an exit of the guest reads as an interrupt (Linux, exit code 0x60)', () => {
    const rig = two([{ op: 'work' }, { op: 'jump', to: 0 }]);
    rig.machine.run(1);
    expect([rig.vp().current, rig.field('exitCode', 0, 2), rig.plane(0, 2).isLive]).toEqual([2, 0x60n, false]);
  });
  it('reserved bytes and the words of more privileged software keep their values (APM vol. 2, Table B-4)', () => {
    const rig = two([...runVmpl(0), hlt]);
    const kept = [0x0c8, 0x0d8, 0x138, 0x1c0, 0x1d0, 0x248, 0x260, 0x298, 0x2d8, 0x320, 0x380, 0x388, 0x3f0, 0x670, 0x7c0, 0x7c8, 0xff8];
    for (const at of kept.slice(1)) rig.poke(vmsaOf(0, 2) + at, 0x1111_2222_3333_0000n + BigInt(at));
    const before = kept.slice(1).map((at) => rig.peek(vmsaOf(0, 2) + at));
    rig.run();
    expect(kept.slice(1).map((at) => rig.peek(vmsaOf(0, 2) + at))).toEqual(before);
    expect(rig.field('sevFeatures', 0, 2)).toBe(SNP);
  });
  it('breakpoint addresses belong to it with debug swap only (APM vol. 2, 15.36.19)', () => {
    const values = (features: bigint): VmsaValues => ({ sevFeatures: features, dr0: 0x1000n, dr3: 0x4000n, dr0Mask: 0xfn });
    const swapped = two([...runVmpl(0), hlt], { vmsa: (_vp, vmpl) => (vmpl === 2 ? values(SNP | bit(SevFeature.DebugSwap)) : {}) });
    swapped.run();
    expect([swapped.get('dr0', 0, 2), swapped.get('dr3', 0, 2), swapped.get('dr0Mask', 0, 2)]).toEqual([0x1000n, 0x4000n, 0xfn]);
    const own = two([...runVmpl(0), hlt], { vmsa: (_vp, vmpl) => (vmpl === 2 ? values(SNP) : {}) });
    own.run();
    expect([own.get('dr0', 0, 2), own.field('dr0', 0, 2)]).toEqual([0n, 0x1000n]);
  });
  it('scale and offset of the TSC count with Secure TSC only (APM vol. 2, 15.36.18)', () => {
    const values = (features: bigint): VmsaValues => ({ sevFeatures: features, guestTscScale: 2n << 32n, guestTscOffset: 0x1000n });
    const secure = two([...runVmpl(0), hlt], { vmsa: (_vp, vmpl) => (vmpl === 2 ? values(SNP | bit(SevFeature.SecureTsc)) : {}) });
    secure.run();
    expect([secure.get('tscScale', 0, 2), secure.get('tscOffset', 0, 2)]).toEqual([2n << 32n, 0x1000n]);
    const plain = two([...runVmpl(0), hlt], { vmsa: (_vp, vmpl) => (vmpl === 2 ? values(SNP) : {}) });
    plain.run();
    expect([plain.get('tscScale', 0, 2), plain.get('tscOffset', 0, 2)]).toEqual([1n << 32n, 0n]);
  });
  it('a processor id of 0 flushes what is kept of translations; the entry writes the id (APM vol. 2, 15.36.17)', () => {
    const rig = two([...runVmpl(0), { op: 'work' }, ...runVmpl(0), hlt], { programs: [{ 0: [...runVmpl(2), ...runVmpl(2), hlt], 2: [...runVmpl(0), ...runVmpl(0), hlt] }] });
    const flushed: number[] = [];
    rig.snp.chapters.vmsas.flush = (context) => void flushed.push(context.plane);
    rig.run();
    // Once at the first entry of each, never again for a VMPL that stays on its processor.
    expect([flushed, rig.field('pcpuId', 0, 2)]).toEqual([[0, 2], 1n]);
  });
  it('long mode is active when it is enabled and paging is on, whatever the area says', () => {
    const rig = two([...runVmpl(0), hlt], { vmsa: (_vp, vmpl) => (vmpl === 2 ? { efer: 0x1100n, cr0: 0x8000_0011n, cr4: 0x20n } : {}) });
    rig.run();
    expect(rig.get('efer', 0, 2)).toBe(0x1500n);
  });
});

describe('a save area that an EDK2 or a COCONUT made', () => {
  it('TR without attributes is no reason to refuse (edk2 UefiCpuPkg/Library/MpInitLib/X64/AmdSev.c)', () => {
    const rig = two([{ op: 'work', regs: { rbx: 9 } }, ...runVmpl(0), hlt], { vmsa: (_vp, vmpl) => (vmpl === 2 ? { tr: { selector: 0, attributes: 0, limit: 0xffff, base: 0n }, ldtr: { selector: 0, attributes: 0x83, limit: 0xffff, base: 0n } } : {}) });
    expect([rig.run(), rig.get('rbx', 0, 2)]).toEqual([[], 9n]);
  });
});

/** A way to break an entry, and what the VMM is told. */
const rules: readonly (readonly [name: string, break_: (rig: VmplRig) => void, refusal: string])[] = [
  ['a page that is shared', (r) => r.snp.chapters.rmp.assign(vmsaOf(0, 2) / PAGE_SIZE, 1, false), EntryRefusal.NotAssigned],
  ['a page that is not validated', (r) => r.snp.chapters.rmp.validate(vmsaOf(0, 2) / PAGE_SIZE, false, false), EntryRefusal.NotValidated],
  ['a page without the VMSA bit', (r) => r.snp.chapters.rmp.adjust(0, vmsaOf(0, 2) / PAGE_SIZE, false, 1, 0, false), EntryRefusal.NoVmsaBit],
  ['a page outside of memory', (r) => void (r.plane(0, 2).vmsa = 0x7fff_0000), EntryRefusal.NotAssigned],
  ['VMPL 4', (r) => r.putByte(vmsaOf(0, 2) + 0xca, 4, true), EntryRefusal.VmplRange],
  ['VMPL 1 in the area of VMPL2', (r) => r.putByte(vmsaOf(0, 2) + 0xca, 1, true), EntryRefusal.VmplMismatch],
  ['SVME clear', (r) => r.setField('efer', 0n, 0, 2), EntryRefusal.SvmeClear],
  ['a reserved feature', (r) => r.setField('sevFeatures', SNP | bit(22), 0, 2), 'SEV_FEATURES: reserved bits'],
  ['a reserved feature in the upper half', (r) => r.setField('sevFeatures', SNP | bit(40), 0, 2), 'SEV_FEATURES: reserved bits'],
  ['SNP not active', (r) => r.setField('sevFeatures', 0n, 0, 2), 'SEV_FEATURES: SNP active differs from the machine'],
  ['restricted and alternate injection', (r) => r.setField('sevFeatures', SNP | bit(3) | bit(4), 0, 2), 'SEV_FEATURES: restricted and alternate injection'],
  ['BUSY under alternate injection', (r) => { r.setField('sevFeatures', SNP | bit(4), 0, 2); r.setField('vintrCtrl', bit(63), 0, 2); }, EntryRefusal.IdleRequired],
  ['CR0.NW without CD', (r) => r.setField('cr0', 0x2000_0010n, 0, 2), EntryRefusal.Cr0],
  ['the upper half of CR0', (r) => r.setField('cr0', bit(32), 0, 2), EntryRefusal.Cr0],
  ['a reserved bit of CR4', (r) => r.setField('cr4', bit(15), 0, 2), EntryRefusal.Cr4],
  ['the upper half of CR4', (r) => r.setField('cr4', bit(40), 0, 2), EntryRefusal.Cr4],
  ['a reserved bit of EFER', (r) => r.setField('efer', 0x1002n, 0, 2), EntryRefusal.Efer],
  ['long mode with paging, without PAE', (r) => { r.setField('efer', 0x1100n, 0, 2); r.setField('cr0', 0x8000_0011n, 0, 2); }, EntryRefusal.Paging],
  ['long mode with paging, without PE', (r) => { r.setField('efer', 0x1100n, 0, 2); r.setField('cr4', 0x20n, 0, 2); r.setField('cr0', 0x8000_0010n, 0, 2); }, EntryRefusal.Paging],
  ['CR3 beyond the address width', (r) => { r.setField('efer', 0x1100n, 0, 2); r.setField('cr4', 0x20n, 0, 2); r.setField('cr0', 0x8000_0011n, 0, 2); r.setField('cr3', bit(60), 0, 2); }, EntryRefusal.Cr3],
  ['CS.L with CS.D', (r) => { r.setField('efer', 0x1100n, 0, 2); r.setField('cr4', 0x20n, 0, 2); r.setField('cr0', 0x8000_0011n, 0, 2); r.poke(vmsaOf(0, 2) + 0x10, 0xffff_069b_0000n); }, EntryRefusal.CodeSegment],
  ['the upper half of DR7', (r) => r.setField('dr7', bit(33), 0, 2), EntryRefusal.Debug],
  ['the upper half of DR6', (r) => r.setField('dr6', bit(33), 0, 2), EntryRefusal.Debug],
  ['XCR0 without x87', (r) => r.setField('xcr0', 0n, 0, 2), EntryRefusal.Xcr0],
  ['XCR0 with AVX without SSE', (r) => r.setField('xcr0', 5n, 0, 2), EntryRefusal.Xcr0],
  ['reserved bits of MXCSR', (r) => r.setField('mxcsr', 0xffff_0000n, 0, 2), EntryRefusal.Mxcsr],
];

describe('the entry fails towards the host (APM vol. 2, 15.5.1, 15.36.8)', () => {
  it.each(rules)('with %s', (_name, break_, refusal) => {
    const rig = two([{ op: 'work', regs: { rbx: 1 } }, hlt]);
    break_(rig);
    const exits = rig.run();
    expect(exits).toEqual([{ kind: 'entryRefused', plane: 2, reason: refusal }]);
    // Nothing of the area was taken, and it is not told to the guest.
    expect([rig.get('rbx', 0, 2), rig.context(0, 2).schedule, rig.plane(0, 2).isLive]).toEqual([0n, Schedule.Stopped, false]);
  });
  it.each([[EntryRefusal.InUse, VmsaExitSentinel.Busy], [EntryRefusal.IdleRequired, VmsaExitSentinel.IdleRequired], [EntryRefusal.SvmeClear, VmsaExitSentinel.Invalid]])('%s is sentinel %i', (refusal, sentinel) => expect(sentinelOf(refusal)).toBe(sentinel));
  it('rules come in the order of the manual: the page before its content', () => {
    const rig = two([hlt]);
    rig.setField('efer', 0n, 0, 2);
    rig.putByte(vmsaOf(0, 2) + 0xca, 3, true);
    rig.setField('cr0', bit(32), 0, 2);
    expect(rig.snp.chapters.vmsas.check(rig.plane(0, 2))).toBe(EntryRefusal.VmplMismatch);
    rig.putByte(vmsaOf(0, 2) + 0xca, 2, true);
    expect(rig.snp.chapters.vmsas.check(rig.plane(0, 2))).toBe(EntryRefusal.SvmeClear);
    rig.setField('efer', 0x1000n, 0, 2);
    expect(rig.snp.chapters.vmsas.check(rig.plane(0, 2))).toBe(EntryRefusal.Cr0);
  });
  it('a C-bit in CR3 is no part of the address', () => {
    const rig = two([hlt], { vmsa: (_vp, vmpl) => (vmpl === 2 ? { efer: 0x1100n, cr4: 0x20n, cr0: 0x8000_0011n, cr3: bit(51) | 0x3000n } : {}) });
    expect(rig.snp.chapters.vmsas.check(rig.plane(0, 2))).toBeNull();
  });
  it('Run VMPL of a VMPL that was refused is an error until it is mended (KVM planes series 2026-06, sev.c)', () => {
    const again: readonly Step[] = [...runVmpl(2), { op: 'rdmsr', index: GHCB_MSR, regs: {} }, { op: 'work' }, ...runVmpl(2), { op: 'rdmsr', index: GHCB_MSR }, hlt];
    const rig = two([{ op: 'work', regs: { rbx: 1 } }, hlt], { programs: [{ 0: again, 2: [{ op: 'work', regs: { rbx: 1 } }, hlt] }] });
    rig.setField('efer', 0n, 0, 2);
    expect(rig.run().map((e) => e.kind)).toEqual(['entryRefused']);
    rig.run();
    expect([rig.get('rax'), rig.get('rdx'), rig.isHalted()]).toEqual([0x17n, 1n, true]);
    rig.setField('efer', 0x1000n, 0, 2);
    expect(rig.snp.chapters.switching.run(rig.plane(), 2)?.kind).toBe('switch');
  });
  it('a boot processor without a save area waits; a reset request of a VMM does not wake it', () => {
    const rig = new VmplRig({ vmsas: [] });
    expect(rig.run()).toEqual([{ kind: 'entryRefused', plane: 0, reason: EntryRefusal.NoVmsa }]);
    expect([rig.run(), rig.context().activity]).toEqual([[], Activity.WaitForSipi]);
  });
});

describe('what nobody sees', () => {
  it('the area of a launch lies outside of guest memory and runs like any other (Linux arch/x86/kvm/svm/sev.c, snp_launch_update_vmsa)', () => {
    const rig = new VmplRig({ vmsas: [], programs: [{ 0: [{ op: 'work', regs: { rbx: 4 } }, hlt] }] });
    rig.snp.chapters.vmsas.launch(rig.plane(), rig.page(0, { rcx: 0x77n, rip: 0x2000n }));
    expect([rig.run(), rig.plane().vmsa, rig.get('rcx'), rig.get('rip')]).toEqual([[], LAUNCH_VMSA_GPA, 0x77n, 0x2002n]);
  });
  it('at the level SEV-ES every area is one of the host; its features are those of the level (APM vol. 2, 15.35.2)', () => {
    const rig = new VmplRig({ level: 'sev-es', programs: [{ 0: [{ op: 'work', regs: { rbx: 4 } }, hlt] }], vmsa: () => ({ rcx: 0x55n }) });
    expect([rig.run(), rig.get('rcx'), rig.get('rbx'), rig.plane().featuresLo]).toEqual([[], 0x55n, 4n, 0]);
    const refused = new VmplRig({ level: 'sev-es', vmsa: () => ({ sevFeatures: SNP }) });
    expect(refused.run()).toMatchObject([{ kind: 'entryRefused', reason: 'SEV_FEATURES: SNP active differs from the machine' }]);
  });
  it('at the level SEV registers are where they are for any guest (APM vol. 2, 15.34)', () => {
    const rig = new VmplRig({ level: 'sev', programs: [{ 0: [{ op: 'work', regs: { rbx: 4 } }, hlt] }] });
    expect([rig.run(), rig.get('rbx'), rig.plane().isLive]).toEqual([[], 4n, false]);
  });
});

describe('a save area that a processor runs from', () => {
  const writer = (offset: number): readonly Step[] => [{ op: 'write', gpa: C + vmsaOf(0, 0) + offset, size: 8, value: 0 }, { op: 'work', regs: { rbx: 2 } }, hlt];
  const racing = (): VmplRig => {
    const rig = new VmplRig({ vps: 2, vmsas: [0], programs: [{ 0: [{ op: 'work' }, { op: 'work' }, { op: 'jump', to: 0 }] }, { 0: writer(Vmsa.at.efer) }] });
    rig.machine.checks = null;
    return rig;
  };
  it('is not written before its processor has left (coconut-svsm kernel/src/protocols/core.rs)', () => {
    const rig = racing();
    let wasHeld: boolean | null = null;
    // The other processor runs in the middle of an entry of the first.
    rig.machine.contextPorts.push({
      entering: (context) => {
        if (context.vp.index !== 0 || wasHeld !== null) return null;
        const other = rig.vp(1);
        other.sliceEnd = other.retired + 10;
        rig.machine.runVp(other);
        wasHeld = other.context.activity === Activity.Held;
        expect(rig.field('efer')).toBe(0x1000n);
        return null;
      },
    });
    rig.machine.run(1);
    expect([wasHeld, rig.field('efer')]).toEqual([true, 0x1000n]);
    // The first one has left: the write is done, and its next entry fails.
    const exits = rig.run();
    expect([rig.get('rbx', 1), rig.field('efer')]).toEqual([2n, 0n]);
    expect(exits).toEqual([{ kind: 'entryRefused', plane: 0, reason: EntryRefusal.SvmeClear }]);
  });
  it('is no area of another processor at the same time, and may be one afterwards', () => {
    const rig = new VmplRig({ vps: 2, vmsas: [0], programs: [{ 0: [{ op: 'work' }, { op: 'jump', to: 0 }] }, { 0: [{ op: 'work', regs: { rbx: 2 } }, hlt] }] });
    rig.machine.checks = null;
    rig.plane(1, 0).vmsa = vmsaOf(0, 0);
    let told: unknown = null;
    rig.machine.contextPorts.push({
      entering: (context) => {
        if (context.vp.index !== 0 || told !== null) return null;
        const other = rig.vp(1);
        other.sliceEnd = other.retired + 10;
        rig.machine.runVp(other);
        told = { ...other.exit };
        return null;
      },
    });
    rig.machine.run(1);
    expect(told).toEqual({ kind: 'entryRefused', plane: 0, reason: EntryRefusal.InUse });
    rig.machine.run(1);
    expect(rig.get('rbx', 1)).toBe(2n);
  });
  it('is in use for RMPUPDATE and RMPADJUST', () => {
    const rig = racing();
    const seen: boolean[] = [];
    rig.machine.contextPorts.push({ entering: (c) => (c.vp.index === 0 && seen.push(rig.snp.chapters.vmsas.isInUse(vmsaOf(0, 0) / PAGE_SIZE)), null) });
    rig.machine.run(1);
    expect([seen[0], rig.snp.chapters.vmsas.isInUse(vmsaOf(0, 0) / PAGE_SIZE)]).toEqual([true, false]);
  });
  it('one\'s own is overwritten at the exit: the write passes', () => {
    const rig = new VmplRig({ vmsas: [0], programs: [{ 0: [{ op: 'write', gpa: C + vmsaOf(0, 0) + Vmsa.at.rbx, size: 8, value: 7 }, { op: 'work' }, hlt] }] });
    expect([rig.run(), rig.field('rbx')]).toEqual([[], 0n]);
  });
  it('a more privileged VMPL reads and writes the area of one that does not run; the next entry takes it (coconut-svsm kernel/src/requests.rs)', () => {
    const area = C + vmsaOf(0, 2);
    const rig = two([{ op: 'work', regs: { rax: 0x1234 } }, ...runVmpl(0), { op: 'work' }, ...runVmpl(0), hlt], {
      programs: [{
        0: [...runVmpl(2), { op: 'read', gpa: area + 0x1f8, size: 8 }, { op: 'expect', register: 'rax', equals: 0x1234 }, { op: 'write', gpa: area + 0x308, size: 8, value: 0x99 }, { op: 'write', gpa: area + 0x3a8, size: 8, value: 5 }, ...runVmpl(2), hlt],
        2: [{ op: 'work', regs: { rax: 0x1234 } }, ...runVmpl(0), { op: 'expect', register: 'rcx', equals: 0x99 }, { op: 'work', regs: { rbx: 1 } }, ...runVmpl(0), hlt],
      }],
    });
    expect([rig.run(), rig.failure(), rig.get('rbx', 0, 2)]).toEqual([[], null, 1n]);
  });
});

describe('property: an exit and an entry', () => {
  const skipped = new Set(['rflags', 'efer', 'cr0', 'cr3', 'cr4', 'dr6', 'dr7', 'xcr0', 'mxcsr', 'mxcsrMask', 'x87.environment', 'x87.cs', 'x87.ds', 'tscAux', 'cpl', 'gdtr.limit', 'idtr.limit', 'tscScale', 'tscOffset']);
  const names = x86ContextLayout.registers.filter((r) => r.architectural !== false && !r.groups?.includes('events') && !r.groups?.includes('mtrr') && !skipped.has(r.name)).map((r) => r.name as RegisterName);
  it('give every register back, and leave what the area does not hold alone', () => {
    const rig = new VmplRig({ vmsas: [0], checked: false, vmsa: () => ({ sevFeatures: SNP | bit(SevFeature.DebugSwap) }) });
    const { vmsas } = rig.snp.chapters;
    const plane = rig.plane();
    const { arena } = rig.machine;
    const { base } = rig.context();
    const mask = (name: RegisterName): bigint =>
      name.endsWith('.selector') ? 0xffffn : name.endsWith('.attributes') ? 0xfffn : name.startsWith('st') && /^st\d$/.test(name) ? (1n << 80n) - 1n : (1n << BigInt(8 * x86ContextLayout.register(name).size)) - 1n;
    fc.assert(
      fc.property(fc.array(fc.bigInt(0n, (1n << 128n) - 1n), { minLength: names.length, maxLength: names.length }), fc.bigInt(0n, 3n), fc.bigInt(0n, 0xffff_ffffn), (values, cpl, aux) => {
        expect(vmsas.load(plane)).toBeNull();
        names.forEach((name, i) => writeRegister(arena, base, name, values[i]! & mask(name)));
        writeRegister(arena, base, 'cpl', cpl);
        writeRegister(arena, base, 'tscAux', aux);
        const before = arena.u8.slice(base, base + 0x700);
        vmsas.store(plane, 0x60, 0, 0, 0, 0);
        // What else the block holds is the architecture's: it is not zeroed here.
        for (const name of names) if (rig.machine.arch.layout.register(name).groups?.includes('gpr')) writeRegister(arena, base, name, 0n);
        arena.u8.fill(0, base + 0x0d0, base + 0x350);
        arena.u8.fill(0, base + 0x4d8, base + 0x5b8);
        expect(vmsas.load(plane)).toBeNull();
        expect(arena.u8.slice(base, base + 0x700)).toEqual(before);
        vmsas.store(plane, 0x60, 0, 0, 0, 0);
      }),
      { numRuns: 60 },
    );
  });
  it('and an entry and an exit leave the page as it was, but for exit information and the processor id', () => {
    const rig = new VmplRig({ vmsas: [0], checked: false });
    const { vmsas } = rig.snp.chapters;
    const plane = rig.plane();
    vmsas.load(plane);
    vmsas.store(plane, 0x60, 0, 0, 0, 0);
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constantFrom('rax', 'r15', 'star', 'cr2', 'ssp', 'guestTscScale', 'lbrSelect', 'ibsOpRip', 'regProtNonce', 'tlbId', 'virtualTom', 'dr0', 'secureAvicControl'), fc.bigInt(0n, (1n << 64n) - 1n)), { maxLength: 8 }), (fields) => {
        for (const [name, value] of fields) rig.setField(name as keyof typeof Vmsa.at, value);
        const before = rig.area();
        expect(vmsas.load(plane)).toBeNull();
        vmsas.store(plane, 0x60, 0, 0, 0, 0);
        expect(rig.area()).toEqual(before);
      }),
      { numRuns: 60 },
    );
  });
});

describe('events on their way at an exit', () => {
  it.each([
    ['an external interrupt', { 'interrupt.injected': 1n, 'interrupt.vector': 0x44n }, { vector: 0x44, type: 0, valid: true }],
    ['a software interrupt', { 'interrupt.injected': 1n, 'interrupt.vector': 0x80n, 'interrupt.soft': 1n }, { vector: 0x80, type: 4, valid: true }],
    ['an NMI', { 'nmi.injected': 1n }, { vector: 2, type: 2, valid: true }],
    ['an exception', { 'exception.state': 2n, 'exception.vector': 13n, 'exception.hasErrorCode': 1n, 'exception.errorCode': 0x18n }, { vector: 13, type: 3, errorCodeValid: true, valid: true, errorCode: 0x18 }],
    ['#HV', { 'exception.state': 2n, 'exception.vector': BigInt(HV_VECTOR) }, { vector: 28, type: 3, valid: true }],
  ] as const)('%s is told in GUEST_EXITINTINFO (APM vol. 2, 15.7.2)', (_name, cells, event) => {
    const rig = new VmplRig({ vmsas: [0], checked: false });
    const plane = rig.plane();
    rig.snp.chapters.vmsas.load(plane);
    for (const [name, value] of Object.entries(cells)) writeRegister(rig.machine.arena, rig.context().base, name as RegisterName, value);
    rig.snp.chapters.vmsas.store(plane, 0x400, 1, 2, 3, 4);
    expect(rig.field('exitIntInfo')).toBe(VmsaEvent.pack(event));
    expect([rig.field('exitCode'), rig.field('exitInfo1'), rig.field('exitInfo2')]).toEqual([0x400n, 0x2_0000_0001n, 0x4_0000_0003n]);
  });
});

it('a snapshot names a save area that is not there: refused', () => {
  const rig = new VmplRig({ vmsas: [0] });
  const state = structuredClone(rig.snp.save()) as Record<string, unknown>;
  (state['switching'] as { vp: number }[]).push({ ...(state['switching'] as { vp: number }[])[0]!, vp: 9 });
  expect(() => rig.snp.restore(state as never)).toThrow(HostError);
});
