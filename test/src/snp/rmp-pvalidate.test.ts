import { RmpStatus } from '@vmplanes/abi-sev-snp';
import { describe, expect, it } from 'vitest';
import { FREE, Rig, updateOperand as operand, View } from './rig.ts';

const PAGE = FREE + 3;
const UD = { fault: { vector: 6, errorCode: null } };
const GP = { fault: { vector: 13, errorCode: 0 } };

/** A rig whose page is given to the guest and not validated. */
const withPage = (gpn = PAGE): Rig => {
  const rig = new Rig();
  rig.rmp.assign(gpn, 1, true);
  return rig;
};

describe('PVALIDATE', () => {
  // -- faults, in their order @spec APM vol. 3, PVALIDATE
  it.each(['sev', 'sev-es'] as const)('does not exist in a guest of level %s', (level) => expect(new Rig({ level }).pvalidate(PAGE)).toMatchObject(UD));
  it('is #GP(0) at CPL 3', () => {
    const rig = withPage();
    rig.set('cpl', 3n);
    expect(rig.pvalidate(PAGE)).toMatchObject(GP);
  });
  it.each([1, 2, 3])('is #GP(0) at VMPL%i', (vmpl) => {
    const rig = withPage();
    expect(rig.pvalidate(PAGE, { vmpl })).toMatchObject(GP);
    expect(rig.rmp.entry(PAGE).validated).toBe(false);
  });
  it('faults for its privilege level before it looks at size or address', () => {
    const rig = withPage();
    rig.set('cpl', 3n);
    expect(rig.pvalidate(PAGE, { size: 2, view: 2n ** 62n })).toMatchObject(GP);
  });
  it('is there outside of 64-bit mode, with a 32-bit address', () => {
    const rig = withPage();
    rig.set('cs.attributes', 0xc9bn);
    expect(rig.instruction(0, 'pvalidate', { rax: 0xffff_ffff_0000_0000n | BigInt(PAGE * 4096), rcx: 0, rdx: 1 })).toMatchObject({ fault: null, eax: 0, carry: false });
    expect(rig.rmp.entry(PAGE).validated).toBe(true);
  });
  it('takes a non-canonical address as a read of one byte does: #GP(0)', () => expect(withPage().pvalidate(0, { view: 2n ** 60n })).toMatchObject(GP));
  it('takes an unmapped address as a read of one byte does: #PF', () => expect(withPage().pvalidate(0, { view: 0xc000_0000n })).toMatchObject({ fault: { vector: 14, errorCode: 0, address: 0xc000_0000n } }));

  // -- operands
  it('gives FAIL_INPUT for a size above 1', () => expect(withPage().pvalidate(PAGE, { size: 2 })).toMatchObject({ eax: RmpStatus.FailInput, carry: false, fault: null }));
  it('gives FAIL_INPUT for 2 MiB off its border, and changes nothing', () => {
    const rig = new Rig();
    rig.rmp.assign(FREE, 512, true, true);
    expect(rig.pvalidate(FREE + 1, { size: 1, view: View.Large })).toMatchObject({ eax: RmpStatus.FailInput, fault: null });
    expect(rig.rmp.entry(FREE).validated).toBe(false);
  });
  it('gives FAIL_INPUT before it looks the address up', () => expect(withPage().pvalidate(0, { size: 2, view: 0xc000_0000n })).toMatchObject({ eax: RmpStatus.FailInput, fault: null }));
  it('gives FAIL_SIZEMISMATCH for 2 MiB where the guest maps 4 KiB', () => {
    const rig = new Rig();
    rig.rmp.assign(FREE, 512, true, true);
    expect(rig.pvalidate(FREE, { size: 1 })).toMatchObject({ eax: RmpStatus.FailSizeMismatch, fault: null });
  });
  it('gives FAIL_SIZEMISMATCH for 2 MiB where the entries are of 4 KiB', () => {
    const rig = new Rig();
    rig.rmp.assign(FREE, 512, true, false);
    expect(rig.pvalidate(FREE, { size: 1, view: View.Large })).toMatchObject({ eax: RmpStatus.FailSizeMismatch, fault: null });
    expect(rig.rmp.entry(FREE).validated).toBe(false);
  });

  // -- what the table refuses
  it('asks the host for a page that is shared: a nested page fault without the RMP bit', () => {
    const rig = new Rig();
    expect(rig.pvalidate(PAGE)).toMatchObject({ fault: null, exit: { kind: 'memoryFault', info: { gpa: PAGE * 4096, isPrivate: true, missing: 0 } } });
    expect(rig.stored).toEqual([{ vmpl: 0, code: 0x400, info1Lo: 4, info1Hi: 0b101, info2: PAGE * 4096 }]);
  });
  it('is a nested page fault with RMP and ENC for an immutable page', () => {
    const rig = withPage();
    expect(rig.rmp.update(PAGE, operand(PAGE, { immutable: 1 }))).toBe(RmpStatus.Success);
    expect(rig.pvalidate(PAGE)).toMatchObject({ exit: { kind: 'rmpFault', vp: 0, plane: 0, gpa: PAGE * 4096, errorLo: 0x8000_0005, errorHi: 0b101 } });
  });
  it.each([['another guest', { asid: 2 }], ['another address', { gpa: (PAGE + 1) * 4096 }]] as const)('is a nested page fault with RMP and ENC for a page of %s', (_whose, what) => {
    const rig = withPage();
    rig.rmp.update(PAGE, operand(PAGE, what));
    expect(rig.pvalidate(PAGE)).toMatchObject({ exit: { kind: 'rmpFault', errorLo: 0x8000_0005, errorHi: 0b101 } });
  });
  it('of 4 KiB in an entry of 2 MiB lets the host divide it, and is done then', () => {
    const rig = new Rig();
    rig.rmp.assign(FREE, 512, true, true);
    expect(rig.pvalidate(PAGE)).toMatchObject({ fault: null, exit: null, eax: 0, carry: false });
    expect(rig.rmp.entry(PAGE)).toMatchObject({ large: false, validated: true });
    expect(rig.rmp.entry(PAGE + 1)).toMatchObject({ large: false, validated: false });
  });
  it('of an address mapped with C=0 whose page is private asks the host for the shared side', () => expect(withPage().pvalidate(PAGE, { view: View.Shared })).toMatchObject({ exit: { kind: 'memoryFault', info: { isPrivate: false } } }));

  // -- what it does
  it('validates with CF clear, EAX 0 and ZF set', () => {
    const rig = withPage();
    expect(rig.pvalidate(PAGE)).toMatchObject({ fault: null, exit: null, eax: 0, carry: false });
    expect(rig.rmp.entry(PAGE).validated).toBe(true);
    expect(rig.get('rflags') & 0x8d5n).toBe(0x44n);
  });
  it('a second time says with CF that nothing changed', () => {
    const rig = withPage();
    rig.pvalidate(PAGE);
    expect(rig.pvalidate(PAGE)).toMatchObject({ eax: 0, carry: true });
    expect(rig.rmp.entry(PAGE).validated).toBe(true);
  });
  it('rescinds, and a second time says that nothing changed', () => {
    const rig = new Rig();
    rig.validPage(PAGE);
    expect(rig.pvalidate(PAGE, { validate: false })).toMatchObject({ eax: 0, carry: false });
    expect(rig.rmp.entry(PAGE).validated).toBe(false);
    expect(rig.pvalidate(PAGE, { validate: false })).toMatchObject({ eax: 0, carry: true });
  });
  it('validates 512 pages at once with an entry and a mapping of 2 MiB', () => {
    const rig = new Rig();
    rig.rmp.assign(FREE, 512, true, true);
    expect(rig.pvalidate(FREE, { size: 1, view: View.Large })).toMatchObject({ eax: 0, carry: false });
    for (const gpn of [FREE, FREE + 1, FREE + 511]) expect(rig.rmp.entry(gpn)).toMatchObject({ validated: true, large: true });
    expect(rig.rmp.entry(FREE + 512).validated).toBe(false);
  });
  it('leaves the content of the page alone', () => {
    const rig = withPage();
    rig.poke(PAGE * 4096, 0x1122_3344_5566_7788n);
    rig.pvalidate(PAGE);
    rig.pvalidate(PAGE, { validate: false });
    expect(rig.peek(PAGE * 4096, true)).toBe(0x1122_3344_5566_7788n);
  });
  it('leaves permissions alone', () => {
    const rig = new Rig();
    rig.validPage(PAGE, [1, 3, 15]);
    rig.pvalidate(PAGE, { validate: false });
    expect(rig.rmp.entry(PAGE).perms).toEqual([1, 3, 15]);
  });
  it('clears the upper half of RAX', () => {
    const rig = withPage();
    rig.pvalidate(PAGE, { size: 5, view: 0xffff_8000_0000_0000n });
    expect(rig.get('rax')).toBe(BigInt(RmpStatus.FailInput));
  });
  it('on one processor is seen by the other at once', () => {
    const rig = new Rig({ vps: 2 });
    rig.validPage(PAGE);
    expect(rig.read(PAGE, { vp: 1 })).toMatchObject({ fault: null, exit: null });
    rig.pvalidate(PAGE, { validate: false });
    expect(rig.read(PAGE, { vp: 1 })).toMatchObject({ fault: { vector: 29, errorCode: 0x404 } });
  });
});
