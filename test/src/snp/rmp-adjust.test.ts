import { RmpStatus } from '@vmplanes/abi-sev-snp';
import { describe, expect, it } from 'vitest';
import { FREE, Rig, updateOperand, View } from './rig.ts';

const PAGE = FREE + 3;
const UD = { fault: { vector: 6, errorCode: null } };
const GP = { fault: { vector: 13, errorCode: 0 } };
const VC = { fault: { vector: 29, errorCode: 0x404 } };
const RWX = 0xf;

const withPage = (perms: readonly [number, number, number] = [0, 0, 0]): Rig => {
  const rig = new Rig();
  rig.validPage(PAGE, perms);
  return rig;
};

describe('RMPADJUST', () => {
  // -- faults, in their order @spec APM vol. 3, RMPADJUST
  it.each(['sev', 'sev-es'] as const)('does not exist in a guest of level %s', (level) => expect(new Rig({ level }).rmpadjust(PAGE, 1, RWX)).toMatchObject(UD));
  it('is #UD outside of 64-bit mode, at any privilege level', () => {
    const rig = withPage();
    rig.set('cs.attributes', 0xc9bn);
    rig.set('cpl', 3n);
    expect(rig.rmpadjust(PAGE, 1, RWX)).toMatchObject(UD);
  });
  it('is #GP(0) at CPL 3, before the target counts', () => {
    const rig = withPage();
    rig.set('cpl', 3n);
    expect(rig.rmpadjust(PAGE, 0, RWX)).toMatchObject(GP);
  });
  it.each([[0, 0], [1, 0], [1, 1], [2, 1], [3, 3]] as const)('VMPL%i may not adjust VMPL%i: FAIL_PERMISSION', (vmpl, target) => expect(withPage([RWX, RWX, RWX]).rmpadjust(PAGE, target, 0, { vmpl })).toMatchObject({ eax: RmpStatus.FailPermission, fault: null, exit: null }));
  it('knows no VMPL above 3: FAIL_PERMISSION', () => expect(withPage().rmpadjust(PAGE, 4, 0)).toMatchObject({ eax: RmpStatus.FailPermission }));
  it('refuses the target before any look-up, which is how software asks whether it is at VMPL0', () => expect(new Rig().rmpadjust(PAGE, 1, RWX, { vmpl: 1 })).toMatchObject({ eax: RmpStatus.FailPermission, exit: null }));
  it('at VMPL0 the same question looks the page up', () => expect(new Rig().rmpadjust(PAGE, 1, RWX)).toMatchObject({ exit: { kind: 'memoryFault' } }));

  // -- operands
  it.each([['a bit above the VMSA bit', 0x2_0001n], ['an upper half of RDX', 0x1_0000_0001n], ['a sixth permission', 0x2001n]] as const)('gives FAIL_INPUT for %s', (_what, rdx) =>
    expect(withPage().instruction(0, 'rmpadjust', { rax: PAGE * 4096, rcx: 0, rdx })).toMatchObject({ eax: RmpStatus.FailInput }));
  it.each([2n, 0x1_0000_0000n])('gives FAIL_INPUT for the size 0x%x', (rcx) => expect(withPage().instruction(0, 'rmpadjust', { rax: PAGE * 4096, rcx, rdx: 1 })).toMatchObject({ eax: RmpStatus.FailInput }));
  it('gives FAIL_INPUT for 2 MiB off its border', () => expect(withPage().rmpadjust(FREE + 1, 1, 0, { size: 1, view: View.Large })).toMatchObject({ eax: RmpStatus.FailInput }));
  it('gives FAIL_PERMISSION for a bad target before FAIL_INPUT for a bad size', () => expect(withPage().instruction(0, 'rmpadjust', { rax: 0, rcx: 9, rdx: 0 })).toMatchObject({ eax: RmpStatus.FailPermission }));
  it('takes an unmapped address as a read of one byte does: #PF', () => expect(withPage().rmpadjust(0, 1, 0, { view: 0xc000_0000n })).toMatchObject({ fault: { vector: 14 } }));
  it('takes a non-canonical address as a read of one byte does: #GP(0)', () => expect(withPage().rmpadjust(0, 1, 0, { view: 2n ** 60n })).toMatchObject(GP));

  // -- what the table refuses
  it('is a nested page fault with RMP and ENC for an immutable page', () => {
    const rig = withPage();
    rig.rmp.update(PAGE, updateOperand(PAGE, { immutable: 1 }));
    expect(rig.rmpadjust(PAGE, 1, RWX)).toMatchObject({ exit: { kind: 'rmpFault', errorLo: 0x8000_0005, errorHi: 0b101 } });
  });
  it('is #VC 0x404 for a page that is not validated', () => {
    const rig = new Rig();
    rig.rmp.assign(PAGE, 1, true);
    expect(rig.rmpadjust(PAGE, 1, RWX)).toMatchObject(VC);
  });
  it('meets the missing validation before the size of the entry', () => {
    const rig = new Rig();
    rig.rmp.assign(FREE, 512, true, false);
    expect(rig.rmpadjust(FREE, 1, RWX, { size: 1, view: View.Large })).toMatchObject(VC);
  });
  it('gives FAIL_SIZEMISMATCH for 2 MiB where the entries are of 4 KiB', () => {
    const rig = new Rig();
    for (let i = 0; i < 512; i++) rig.validPage(FREE + i);
    expect(rig.rmpadjust(FREE, 1, RWX, { size: 1, view: View.Large })).toMatchObject({ eax: RmpStatus.FailSizeMismatch });
  });
  it('of 4 KiB in an entry of 2 MiB lets the host divide it; both parts keep what the whole had', () => {
    const rig = new Rig();
    rig.largePage(FREE);
    rig.rmpadjust(FREE, 2, 3, { size: 1, view: View.Large });
    expect(rig.rmpadjust(PAGE, 1, RWX)).toMatchObject({ eax: 0, exit: null, fault: null });
    expect(rig.rmp.entry(PAGE)).toMatchObject({ large: false, validated: true, perms: [RWX, 3, 0] });
    expect(rig.rmp.entry(FREE)).toMatchObject({ large: false, validated: true, perms: [0, 3, 0] });
  });
  it('gives FAIL_PERMISSION for more than the caller has', () => {
    const rig = withPage([3, 0, 0]);
    expect(rig.rmpadjust(PAGE, 2, 7, { vmpl: 1 })).toMatchObject({ eax: RmpStatus.FailPermission });
    expect(rig.rmp.entry(PAGE).perms).toEqual([3, 0, 0]);
  });
  it.each([3, 1, 0])('gives a lower VMPL the part 0x%x of what the caller has', (mask) => {
    const rig = withPage([3, 0, 0]);
    expect(rig.rmpadjust(PAGE, 3, mask, { vmpl: 1 })).toMatchObject({ eax: 0 });
    expect(rig.rmp.entry(PAGE).perms).toEqual([3, 0, mask]);
  });

  // -- what it does
  it('at VMPL0 gives any mask to VMPL 1 to 3, each for itself', () => {
    const rig = withPage();
    for (const target of [1, 2, 3]) expect(rig.rmpadjust(PAGE, target, 1 << target)).toMatchObject({ eax: 0, fault: null });
    expect(rig.rmp.entry(PAGE).perms).toEqual([2, 4, 8]);
  });
  it('replaces a mask rather than adds to it', () => {
    const rig = withPage([RWX, 0, 0]);
    rig.rmpadjust(PAGE, 1, 1);
    expect(rig.rmp.entry(PAGE).perms[0]).toBe(1);
  });
  it('leaves what a lower VMPL had when the caller takes from one between', () => {
    const rig = withPage([RWX, RWX, 0]);
    rig.rmpadjust(PAGE, 1, 0);
    expect(rig.rmp.entry(PAGE).perms).toEqual([0, RWX, 0]);
  });
  it('at VMPL0 makes a VMSA page and unmakes it', () => {
    const rig = withPage();
    rig.rmpadjust(PAGE, 1, 1, { vmsa: true });
    expect(rig.rmp.entry(PAGE)).toMatchObject({ vmsa: true, perms: [1, 0, 0] });
    rig.rmpadjust(PAGE, 1, 1);
    expect(rig.rmp.entry(PAGE).vmsa).toBe(false);
  });
  it('below VMPL0 ignores the VMSA bit silently, set or clear', () => {
    const rig = withPage([RWX, 0, 0]);
    expect(rig.rmpadjust(PAGE, 2, 1, { vmpl: 1, vmsa: true })).toMatchObject({ eax: 0 });
    expect(rig.rmp.entry(PAGE).vmsa).toBe(false);
    rig.rmpadjust(PAGE, 1, RWX, { vmsa: true });
    rig.rmpadjust(PAGE, 2, 1, { vmpl: 1 });
    expect(rig.rmp.entry(PAGE).vmsa).toBe(true);
  });
  it('writes ZF for success and leaves CF alone', () => {
    const rig = withPage();
    rig.set('rflags', 0x8d5n | 2n);
    rig.rmpadjust(PAGE, 1, 1);
    expect(rig.get('rflags')).toBe(0x47n);
  });
  it('clears ZF for a failure', () => {
    const rig = withPage();
    rig.set('rflags', 0x42n);
    rig.rmpadjust(PAGE, 0, 1);
    expect(rig.get('rflags')).toBe(2n);
  });
  it('changes 512 pages at once with an entry and a mapping of 2 MiB', () => {
    const rig = new Rig();
    rig.largePage(FREE);
    expect(rig.rmpadjust(FREE, 3, 5, { size: 1, view: View.Large })).toMatchObject({ eax: 0 });
    for (const gpn of [FREE, FREE + 511]) expect(rig.rmp.entry(gpn)).toMatchObject({ large: true, perms: [0, 0, 5] });
  });
  it('on one processor is seen by the other at once', () => {
    const rig = new Rig({ vps: 2 });
    rig.validPage(PAGE, [3, 0, 0]);
    expect(rig.read(PAGE, { vmpl: 1, vp: 1 })).toMatchObject({ exit: null, fault: null });
    rig.rmpadjust(PAGE, 1, 0);
    expect(rig.read(PAGE, { vmpl: 1, vp: 1 })).toMatchObject({ exit: { kind: 'vmplFault', vp: 1, plane: 1 } });
  });
});

describe('RMPQUERY', () => {
  // @spec APM vol. 3, RMPQUERY
  it('is #UD outside of 64-bit mode', () => {
    const rig = withPage();
    rig.set('cs.attributes', 0xc9bn);
    expect(rig.rmpquery(PAGE, 1)).toMatchObject(UD);
  });
  it('is #GP(0) at CPL 3', () => {
    const rig = withPage();
    rig.set('cpl', 3n);
    expect(rig.rmpquery(PAGE, 1)).toMatchObject(GP);
  });
  it('reports mask, VMSA bit and size of the entry, and keeps the target', () => {
    const rig = withPage();
    rig.rmpadjust(PAGE, 2, 9, { vmsa: true });
    expect(rig.rmpquery(PAGE, 2)).toMatchObject({ eax: 0, fault: null });
    expect([rig.get('rdx'), rig.get('rcx')]).toEqual([0x1_0902n, 0n]);
  });
  it('reports an entry of 2 MiB with size 1', () => {
    const rig = new Rig();
    rig.largePage(FREE);
    rig.rmpquery(FREE + 5, 1);
    expect(rig.get('rcx')).toBe(1n);
  });
  it('tells a VMPL of itself', () => {
    const rig = withPage([0, 6, 0]);
    expect(rig.rmpquery(PAGE, 2, { vmpl: 2 })).toMatchObject({ eax: 0 });
    expect(rig.get('rdx', 2)).toBe(0x602n);
  });
  it('says that VMPL0 may do everything', () => {
    const rig = withPage();
    rig.rmpquery(PAGE, 0);
    expect(rig.get('rdx')).toBe(0x1f00n);
  });
  it('gives FAIL_PERMISSION for a more privileged VMPL, and leaves RDX alone', () => {
    const rig = withPage([RWX, RWX, RWX]);
    expect(rig.rmpquery(PAGE, 1, { vmpl: 2 })).toMatchObject({ eax: RmpStatus.FailPermission });
    expect(rig.get('rdx', 2)).toBe(1n);
  });
  it('gives FAIL_INPUT for reserved bits', () => expect(withPage().instruction(0, 'rmpquery', { rax: PAGE * 4096, rdx: 0x2_0001 })).toMatchObject({ eax: RmpStatus.FailInput }));
  it('is #VC 0x404 for a page that is not validated', () => {
    const rig = new Rig();
    rig.rmp.assign(PAGE, 1, true);
    expect(rig.rmpquery(PAGE, 1)).toMatchObject(VC);
  });
  it('changes nothing', () => {
    const rig = withPage([1, 2, 4]);
    rig.rmpquery(PAGE, 3);
    expect(rig.rmp.entry(PAGE)).toMatchObject({ assigned: true, validated: true, vmsa: false, perms: [1, 2, 4] });
  });
});

describe('instructions of the host', () => {
  it.each(['psmash', 'rmpupdate', 'rmpread'])('%s is #UD in a guest, also at VMPL0', (name) => expect(withPage().instruction(0, name, { rax: PAGE * 4096 })).toMatchObject(UD));
});
