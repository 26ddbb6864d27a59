import { describe, expect, it } from 'vitest';
import { Outcome } from '@vmplanes/engine';
import { es, type GhcbRig, ghcbOf, PAGES, SHARED, snp, v1 } from './ghcb-rig.ts';

// @spec GHCB 2.3.1; Linux arch/x86/kvm/svm/sev.c (sev_handle_vmgexit_msr_protocol)
type Make = () => GhcbRig;
const one = (): GhcbRig => snp({ planes: 1 });
const ALL_ONES = 0xffff_ffff_ffff_f000n;

describe('a request of the MSR protocol', () => {
  /** What, machine, MSR written, MSR read back. */
  const cases: readonly (readonly [what: string, make: Make, request: bigint, reply: bigint])[] = [
    ['SEV information: maximum, minimum, C-bit', snp, 0x002n, 0x0002_0001_3300_0001n],
    ['SEV information of version 1', v1, 0x002n, 0x0001_0001_3300_0001n],
    ['SEV information with another C-bit', () => es({ cBit: 47 }), 0x002n, 0x0002_0001_2f00_0001n],
    ['SEV information ignores the rest of the request', snp, 0xffff_ffff_ffff_f002n, 0x0002_0001_3300_0001n],
    ['a SEV information response is no request', snp, 0x0002_0001_3300_0001n, 0x0002_0001_3300_0001n],
    ['the old AP jump table is unknown', snp, 0x1234_5003n, 0x1234_5003n],
    ['no preferred GHCB', snp, 0x010n, ALL_ONES | 0x011n],
    ['registration echoes the page', snp, BigInt(ghcbOf()) | 0x012n, BigInt(ghcbOf()) | 0x013n],
    ['registration of the last page', snp, BigInt((PAGES - 1) * 4096) | 0x012n, BigInt((PAGES - 1) * 4096) | 0x013n],
    ['registration behind guest memory is rejected', snp, BigInt(PAGES * 4096) | 0x012n, ALL_ONES | 0x013n],
    ['registration beyond every address is rejected', snp, ALL_ONES | 0x012n, ALL_ONES | 0x013n],
    ['a page becomes private', snp, (1n << 52n) | (40n << 12n) | 0x014n, 0x015n],
    ['a page becomes shared', snp, (2n << 52n) | (3n << 12n) | 0x014n, 0x015n],
    ['page state operation 0 is an error', snp, (3n << 12n) | 0x014n, 0x8000_0000_0000_0015n],
    ['page state operation 3 is an error', snp, (3n << 52n) | (3n << 12n) | 0x014n, 0x8000_0000_0000_0015n],
    ['page state operation 15 is an error', snp, (15n << 52n) | (3n << 12n) | 0x014n, 0x8000_0000_0000_0015n],
    ['a page without memory cannot change', snp, (1n << 52n) | (BigInt(PAGES) << 12n) | 0x014n, 0x8000_0000_0000_0015n],
    ['the last page number cannot change', snp, (1n << 52n) | 0xf_ffff_ffff_f000n | 0x014n, 0x8000_0000_0000_0015n],
    ['bits above the operation do not count', snp, (0xffn << 56n) | (2n << 52n) | (3n << 12n) | 0x014n, 0x015n],
    ['run VMPL of the caller itself succeeds', snp, 0x016n, 0x017n],
    ['run VMPL 4 is an error', snp, (4n << 32n) | 0x016n, 0x0000_0001_0000_0017n],
    ['run VMPL 255 is an error', snp, (0xffn << 32n) | 0x016n, 0x0000_0001_0000_0017n],
    ['run VMPL of one that does not exist is an error', one, (1n << 32n) | 0x016n, 0x0000_0001_0000_0017n],
    ['only bits 39:32 name the VMPL', snp, (0x100n << 32n) | 0x016n, 0x017n],
    ['features with more than one VMPL', snp, 0x080n, 0x0003_7081n],
    ['features with one VMPL', one, 0x080n, 0x0001_7081n],
    ['features without restricted injection', () => snp({ options: { allowed: [] } }), 0x080n, 0x0003_3081n],
    ['features without a reverse map', es, 0x080n, 0x081n],
    ['an unknown code leaves the MSR', snp, 0xabcd_0000_0000_0042n, 0xabcd_0000_0000_0042n],
    ['a response is no request', snp, 0x0000_0001_0000_0017n, 0x0000_0001_0000_0017n],
    ['the last code', snp, 0xfffn, 0xfffn],
    ...[0xf00n, 0xf01n, 0xf02n, 0xf03n].map((code) => [`Hyper-V code 0x${code.toString(16)} leaves the MSR`, snp, 0x7700_0000n | code, 0x7700_0000n | code] as const),
  ];
  it.each(cases)('%s', (_what, make, request, reply) => {
    const rig = make();
    expect(rig.msr(request)).toBe(reply);
    expect(rig.exit()).toBeNull();
  });

  it.each([1, 2, 3, 4, 5, 6, 7, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x80, 0x81, 0xf03])('%i goes on behind the instruction', (code) => {
    const rig = snp();
    rig.setMsr(BigInt(code));
    rig.step();
    expect(rig.rip()).toBe(4n);
  });
});

describe('CPUID by MSR', () => {
  const out = new Uint32Array(4);
  const registers = ['EAX', 'EBX', 'ECX', 'EDX'] as const;
  it.each(registers.map((name, i) => [name, i] as const))('gives %s of a leaf', (_name, i) => {
    const rig = snp();
    rig.arch.registers.executeCpuid(rig.machine.vp(0).context, 0x8000_001f, 0, out);
    expect(rig.msr(0x8000_001f_0000_0004n | (BigInt(i) << 30n))).toBe((BigInt(out[i]!) << 32n) | (BigInt(i) << 30n) | 5n);
  });
  it('asks for subleaf 0', () => {
    const rig = snp();
    rig.arch.registers.executeCpuid(rig.machine.vp(0).context, 0xd, 0, out);
    expect(rig.msr(0xd_8000_0004n) >> 32n).toBe(BigInt(out[2]!));
  });
  it('changes no register of the guest', () => {
    const rig = snp();
    const names = ['rax', 'rbx', 'rcx', 'rdx'] as const;
    names.forEach((name, i) => rig.set(name, 0x1111_2222_3333_0000n + BigInt(i)));
    rig.msr(0x0000_0000_4000_0004n);
    expect(names.map((name) => rig.get(name))).toEqual([0n, 1n, 2n, 3n].map((i) => 0x1111_2222_3333_0000n + i));
  });
  it('keeps bits 29:12 of the request', () => expect(snp().msr(0x0000_0000_1234_5004n) & 0xffff_ffffn).toBe(0x1234_5005n));
});

describe('the GHCB MSR', () => {
  it('holds SEV information at first, for every VMPL', () => {
    const rig = snp();
    expect([0, 1].map((p) => rig.getMsr(rig.plane(rig.machine.vp(0).plane(p))))).toEqual([0x0002_0001_3300_0001n, 0x0002_0001_3300_0001n]);
  });
  it('stays over an INIT, and so does the registration', () => {
    const rig = snp();
    rig.msr(BigInt(ghcbOf()) | 0x012n);
    rig.machine.resetPlane(rig.machine.vp(0).context, 'init');
    expect([rig.getMsr(), rig.plane().registeredGhcb]).toEqual([BigInt(ghcbOf()) | 0x013n, ghcbOf()]);
  });
  it('of one VMPL does not change that of another', () => {
    const rig = snp();
    rig.msr(BigInt(ghcbOf()) | 0x012n);
    expect(rig.getMsr(rig.plane(rig.machine.vp(0).plane(1)))).toBe(0x0002_0001_3300_0001n);
  });
  it('0 is no page: the guest goes on with nothing changed', () => {
    const rig = snp();
    expect(rig.msr(0n)).toBe(0n);
    expect(rig.rip()).toBe(4n);
  });
});

describe('registration', () => {
  it('counts for the VMPL that asked', () => {
    const rig = snp();
    rig.msr(BigInt(50 * 4096) | 0x012n);
    expect([rig.plane().registeredGhcb, rig.plane(rig.machine.vp(0).plane(1)).registeredGhcb]).toEqual([50 * 4096, ghcbOf(0, 1)]);
  });
  it('that is rejected changes nothing', () => {
    const rig = snp();
    rig.msr(BigInt(PAGES * 4096) | 0x012n);
    expect(rig.plane().registeredGhcb).toBe(ghcbOf());
  });
});

describe('a page state change by MSR', () => {
  it('to private assigns the page: not validated, no rights below VMPL 0, zeros', () => {
    const rig = snp();
    rig.poke(50 * 4096, 0x1234n);
    rig.msr((1n << 52n) | (50n << 12n) | 0x014n);
    expect(rig.machine.memory.isPrivate(50)).toBe(true);
    expect(rig.snp.chapters.rmp.entry(50)).toMatchObject({ assigned: true, validated: false, vmsa: false, perms: [0, 0, 0] });
    expect(rig.log.take()).toEqual(['private 50+1']);
  });
  it('to shared takes the page from the guest, with zeros', () => {
    const rig = snp();
    rig.msr((2n << 52n) | (7n << 12n) | 0x014n);
    expect([rig.machine.memory.isPrivate(7), rig.snp.chapters.rmp.entry(7).assigned, rig.peek(7 * 4096)]).toEqual([false, false, 0n]);
  });
  it('that is an error changes no page', () => {
    const rig = snp();
    for (const op of [0n, 3n, 4n, 9n]) rig.msr((op << 52n) | (7n << 12n) | 0x014n);
    expect(rig.log.take()).toEqual([]);
  });
});

describe('requests that need a reverse map', () => {
  it.each([[0x010n, 'preferred GHCB GPA request'], [0x012n, 'register GHCB GPA request'], [0x014n, 'page state change request']] as const)('%o ends a guest without one', (code, name) => {
    const rig = es();
    rig.setMsr(code);
    expect(rig.step()).toBe(Outcome.Exit);
    expect(rig.exit()).toMatchObject({ kind: 'sevTermination', vp: 0, vmpl: 0, msrLo: Number(code), reasonSet: -1, reasonCode: -1, text: expect.stringContaining(`is terminated: a ${name} needs a reverse map`) as string });
    expect(rig.step()).toBe(Outcome.Blocked);
  });
  it('run VMPL without one is an error', () => expect(es().msr((1n << 32n) | 0x016n)).toBe(0x0000_0001_0000_0017n));
});

describe('run VMPL by MSR', () => {
  it('switches, with the reply there when the caller runs again', () => {
    const rig = snp();
    expect(rig.msr((1n << 32n) | 0x016n)).toBe(0x017n);
    expect([rig.machine.vp(0).current, rig.log.take()]).toEqual([1, ['run 0>1']]);
  });
  it('of one that cannot run is an error, and the caller goes on', () => {
    const rig = snp();
    rig.log.canRun = false;
    expect(rig.msr((1n << 32n) | 0x016n)).toBe(0x0000_0001_0000_0017n);
    expect(rig.machine.vp(0).current).toBe(0);
  });
  it('of the caller itself does not switch', () => {
    const rig = snp();
    rig.msr(0x016n);
    expect(rig.log.take()).toEqual([]);
  });
  it('leaves the page of the caller untouched', () => {
    const rig = snp();
    rig.write(ghcbOf(), new Uint8Array(4096).fill(0x5a));
    rig.msr((1n << 32n) | 0x016n);
    expect(rig.read(ghcbOf(), 4096).every((b) => b === 0x5a)).toBe(true);
  });
});

describe('AP reset hold by MSR', () => {
  it('waits with the reply of another wake', () => {
    const rig = snp();
    rig.setMsr(0x006n);
    expect(rig.step()).toBe(Outcome.Blocked);
    expect([rig.getMsr(), rig.log.take()]).toEqual([0x007n, ['hold msr']]);
  });
  it('replies 1 after a start-up message', () => {
    const rig = snp();
    rig.setMsr(0x006n);
    rig.step();
    rig.ghcb.complete(rig.plane(), { owner: 'sev-snp-vmpl', kind: 'ghcb.ap-reset-hold', data: { through: 'msr' }, reply: {} });
    expect(rig.getMsr()).toBe(0x1007n);
  });
});

describe('termination by MSR', () => {
  it.each([
    [0x100n, 0, 0, 'general request to terminate'],
    [0x1_0100n, 0, 1, 'range of GHCB protocol versions not supported'],
    [0x2_0100n, 0, 2, 'SNP features not supported'],
    [0x3_1100n, 1, 3, 'not at VMPL0 (Linux)'],
    [0x2_1100n, 1, 2, 'PVALIDATE failed (Linux) or unexpected response code (OVMF)'],
    [0x5_f100n, 15, 5, 'internal reason 5 of the SVSM (linux-svsm)'],
    [0xff_7100n, 7, 255, 'no reason known'],
  ] as const)('%o ends the guest by name', (value, reasonSet, reasonCode, text) => {
    const rig = snp();
    rig.setMsr(value);
    expect(rig.step()).toBe(Outcome.Exit);
    expect(rig.exit()).toEqual({
      kind: 'sevTermination', vp: 0, vmpl: 0, msrLo: Number(value), msrHi: 0, reasonSet, reasonCode, dataLo: 0, dataHi: 0,
      text: `VMPL0 of VP 0 asks to be terminated: set ${reasonSet} code ${reasonCode}, ${text}; GHCB MSR 0x${value.toString(16).padStart(16, '0')}`,
    });
  });
  it('stops every processor, for good', () => {
    const rig = snp({ vps: 2 });
    rig.setMsr(0x100n);
    rig.step();
    expect([rig.step(0), rig.step(1)]).toEqual([Outcome.Blocked, Outcome.Blocked]);
    expect(rig.machine.run().kind).toBe('idle');
  });
  it('is kept in a snapshot', () => {
    const rig = snp();
    rig.setMsr(0x100n);
    rig.step();
    const other = snp();
    other.machine.restore(rig.machine.snapshot());
    expect(other.step()).toBe(Outcome.Blocked);
  });
  it('is the same without a reverse map', () => {
    const rig = es();
    rig.setMsr(0x100n);
    rig.step();
    expect(rig.exit()).toMatchObject({ kind: 'sevTermination', reasonSet: 0, reasonCode: 0 });
  });
});

it('shared pages begin where the rig says', () => expect(snp().machine.memory.isPrivate(SHARED - 1)).toBe(true));
