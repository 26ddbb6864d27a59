import { RmpStatus } from '@vmplanes/abi-sev-snp';
import { ALL_RIGHTS } from '@vmplanes/engine';
import { RmpChapter } from '@vmplanes/personality-sev-snp-vmpl';
import { describe, expect, it } from 'vitest';
import { FREE, Rig, TABLES, updateOperand as operand, View } from './rig.ts';

const PAGE = FREE + 3;

describe('RMPUPDATE', () => {
  // @spec APM vol. 3, RMPUPDATE
  it.each<readonly [string, Uint8Array]>([
    ['assigned above 1', operand(PAGE, { assigned: 2 })],
    ['size above 1', operand(PAGE, { pagesize: 2 })],
    ['immutable above 1', operand(PAGE, { immutable: 2 })],
    ['a reserved byte', operand(PAGE, { reserved: 1 })],
    ['an address that is not of a page', operand(PAGE, { gpa: PAGE * 4096 + 8 })],
    ['a guest for a page that is not assigned', operand(PAGE, { assigned: 0 })],
    ['immutable for a page that is not assigned', operand(PAGE, { assigned: 0, asid: 0, immutable: 1 })],
    ['no guest for a page that is assigned', operand(PAGE, { asid: 0 })],
    ['2 MiB off its border', operand(PAGE, { pagesize: 1 })],
  ])('gives FAIL_INPUT for %s, and changes nothing', (_what, bytes) => {
    const rig = new Rig();
    rig.validPage(PAGE, [1, 2, 3]);
    expect(rig.rmp.update(PAGE, bytes)).toBe(RmpStatus.FailInput);
    expect(rig.rmp.entry(PAGE)).toMatchObject({ assigned: true, validated: true, perms: [1, 2, 3] });
  });
  it('gives FAIL_PERMISSION for an immutable page, which only the security processor gives back', () => {
    const rig = new Rig();
    expect(rig.rmp.update(PAGE, operand(PAGE, { immutable: 1 }))).toBe(RmpStatus.Success);
    expect(rig.rmp.update(PAGE, operand(PAGE))).toBe(RmpStatus.FailPermission);
    expect(rig.rmp.entry(PAGE).immutable).toBe(true);
  });
  it('gives FAIL_OVERLAP for 4 KiB in an entry of 2 MiB', () => {
    const rig = new Rig();
    rig.rmp.assign(FREE, 512, true, true);
    expect(rig.rmp.update(PAGE, operand(PAGE))).toBe(RmpStatus.FailOverlap);
  });
  it.each([1, 511])('gives FAIL_OVERLAP for 2 MiB over an assigned page of 4 KiB, here number %i', (n) => {
    const rig = new Rig();
    rig.rmp.assign(FREE + n, 1, true);
    expect(rig.rmp.update(FREE, operand(FREE, { pagesize: 1 }))).toBe(RmpStatus.FailOverlap);
    expect(rig.rmp.entry(FREE).assigned).toBe(false);
  });
  it('gives FAIL_INUSE for the VMSA that a processor runs from', () => {
    const rig = new Rig();
    rig.rmp.launch(PAGE, [0, 0, 0], true);
    rig.inUse.add(PAGE);
    expect(rig.rmp.update(PAGE, operand(PAGE, { assigned: 0, asid: 0 }))).toBe(RmpStatus.FailInuse);
  });
  it('that changes nothing keeps validation, VMSA bit and permissions', () => {
    const rig = new Rig();
    rig.rmp.launch(PAGE, [1, 2, 3], true);
    expect(rig.rmp.update(PAGE, operand(PAGE))).toBe(RmpStatus.Success);
    expect(rig.rmp.entry(PAGE)).toMatchObject({ assigned: true, validated: true, vmsa: true, perms: [1, 2, 3] });
  });
  it.each<readonly [string, Parameters<typeof operand>[1]]>([['the owner', { asid: 9 }], ['the address', { gpa: 0x5000 }], ['the assignment', { assigned: 0, asid: 0, gpa: 0 }]])('that changes %s clears validation, VMSA bit and permissions', (_what, change) => {
    const rig = new Rig();
    rig.rmp.launch(PAGE, [1, 2, 3], true);
    expect(rig.rmp.update(PAGE, operand(PAGE, change))).toBe(RmpStatus.Success);
    expect(rig.rmp.entry(PAGE)).toMatchObject({ validated: false, vmsa: false, perms: [0, 0, 0] });
  });
  it('that changes the size clears them, too', () => {
    const rig = new Rig();
    rig.largePage(FREE);
    expect(rig.rmp.smash(FREE)).toBe(RmpStatus.Success);
    for (let i = 1; i < 512; i++) rig.rmp.update(FREE + i, operand(FREE + i, { assigned: 0, asid: 0 }));
    expect(rig.rmp.update(FREE, operand(FREE, { pagesize: 1 }))).toBe(RmpStatus.Success);
    expect(rig.rmp.entry(FREE)).toMatchObject({ large: true, validated: false });
    expect(rig.rmp.entry(FREE + 511)).toMatchObject({ large: true, assigned: true, validated: false });
  });
  it('leaves the content of the page alone', () => {
    const rig = new Rig();
    rig.validPage(PAGE);
    rig.write(PAGE, { value: 0x99n });
    rig.rmp.update(PAGE, operand(PAGE, { assigned: 0, asid: 0 }));
    expect(rig.peek(PAGE * 4096, true)).toBe(0x99n);
  });
  it('takes effect on all planes of all processors at once', () => {
    const rig = new Rig({ vps: 2 });
    rig.validPage(PAGE, [15, 15, 15]);
    rig.rmp.update(PAGE, operand(PAGE, { asid: 3 }));
    for (const { vp, plane } of rig.contexts) expect(rig.read(PAGE, { vmpl: plane, vp: vp.index })).toMatchObject({ exit: { kind: 'rmpFault', vp: vp.index, plane } });
  });
});

describe('PSMASH', () => {
  // @spec APM vol. 3, PSMASH
  it('divides an entry of 2 MiB into 512 that keep validation and permissions', () => {
    const rig = new Rig();
    rig.largePage(FREE);
    rig.rmpadjust(FREE, 2, 5, { size: 1, view: View.Large });
    expect(rig.rmp.smash(FREE)).toBe(RmpStatus.Success);
    for (const gpn of [FREE, FREE + 255, FREE + 511]) expect(rig.rmp.entry(gpn)).toMatchObject({ large: false, assigned: true, validated: true, perms: [0, 5, 0] });
  });
  it('gives FAIL_INPUT off the border', () => {
    const rig = new Rig();
    rig.largePage(FREE);
    expect(rig.rmp.smash(FREE + 1)).toBe(RmpStatus.FailInput);
    expect(rig.rmp.entry(FREE).large).toBe(true);
  });
  it.each([['shared', false], ['divided already', true]] as const)('gives FAIL_INPUT for pages that are %s', (_what, isPrivate) => {
    const rig = new Rig();
    rig.rmp.assign(FREE, 512, isPrivate);
    expect(rig.rmp.smash(FREE)).toBe(RmpStatus.FailInput);
  });
  it('gives FAIL_PERMISSION for an immutable entry', () => {
    const rig = new Rig();
    rig.rmp.update(FREE, operand(FREE, { pagesize: 1, immutable: 1 }));
    expect(rig.rmp.smash(FREE)).toBe(RmpStatus.FailPermission);
  });
});

describe('the host changes the side of pages', () => {
  it('to private: assigned, not validated, no permissions, zeros', () => {
    const rig = new Rig();
    rig.write(PAGE, { view: View.Shared, value: 5n });
    rig.rmp.assign(PAGE, 1, true);
    expect(rig.rmp.entry(PAGE)).toEqual({ assigned: true, validated: false, immutable: false, vmsa: false, large: false, foreign: false, perms: [0, 0, 0] });
    rig.pvalidate(PAGE);
    expect(rig.read(PAGE)).toMatchObject({ eax: 0, fault: null });
  });
  it('to shared: not assigned, validation lost without a word of the guest, zeros', () => {
    const rig = new Rig();
    rig.validPage(PAGE, [15, 0, 0]);
    rig.write(PAGE, { value: 5n });
    rig.rmp.assign(PAGE, 1, false);
    expect(rig.rmp.entry(PAGE)).toMatchObject({ assigned: false, validated: false, perms: [0, 0, 0] });
    expect(rig.read(PAGE, { view: View.Shared })).toMatchObject({ eax: 0, fault: null, exit: null });
  });
  it('to what it is already: nothing changes', () => {
    const rig = new Rig();
    rig.validPage(PAGE, [7, 0, 0]);
    rig.write(PAGE, { value: 5n });
    rig.rmp.assign(PAGE, 1, true);
    expect(rig.read(PAGE)).toMatchObject({ eax: 5, fault: null });
    expect(rig.rmp.entry(PAGE)).toMatchObject({ validated: true, perms: [7, 0, 0] });
  });
  it('over pages of both kinds: only the others change', () => {
    const rig = new Rig();
    rig.validPage(PAGE);
    rig.rmp.assign(PAGE - 1, 3, true);
    expect([PAGE - 1, PAGE, PAGE + 1].map((gpn) => rig.rmp.entry(gpn).validated)).toEqual([false, true, false]);
  });
  it('in a part of an entry of 2 MiB: the entry is divided, the rest keeps validation', () => {
    const rig = new Rig();
    rig.largePage(FREE);
    rig.rmp.assign(PAGE, 2, false);
    expect(rig.rmp.entry(PAGE).assigned).toBe(false);
    for (const gpn of [FREE, PAGE + 2, FREE + 511]) expect(rig.rmp.entry(gpn)).toMatchObject({ large: false, validated: true });
  });
  it('with large entries only where 512 pages lie so', () => {
    const rig = new Rig();
    rig.rmp.assign(FREE - 1, 514, true, true);
    expect([FREE - 1, FREE, FREE + 511, FREE + 512].map((gpn) => rig.rmp.entry(gpn).large)).toEqual([false, true, true, false]);
  });
  it('leaves pages of the security processor alone', () => {
    const rig = new Rig();
    rig.rmp.update(PAGE, operand(PAGE, { immutable: 1 }));
    rig.rmp.assign(PAGE, 1, false);
    expect(rig.rmp.entry(PAGE)).toMatchObject({ assigned: true, immutable: true });
  });
  it('by the attribute alone, as a VMM does: shared pages are unassigned, a 2 MiB entry divided', () => {
    const rig = new Rig();
    rig.largePage(FREE);
    rig.machine.memory.setPrivate(PAGE, 1, false);
    expect(rig.rmp.entry(PAGE)).toMatchObject({ assigned: false, large: false });
    expect(rig.rmp.entry(FREE)).toMatchObject({ assigned: true, large: false, validated: true });
    expect(rig.read(PAGE, { view: View.Shared })).toMatchObject({ fault: null, exit: null });
  });
});

describe('launch', () => {
  it.each([[[0, 0, 0]], [[15, 3, 1]]] as const)('places a page private and validated with the permissions %j', (perms) => {
    const rig = new Rig();
    rig.rmp.launch(PAGE, perms, false);
    expect(rig.rmp.entry(PAGE)).toMatchObject({ assigned: true, validated: true, vmsa: false, perms });
    expect(rig.machine.memory.isPrivate(PAGE)).toBe(true);
  });
  it('places a VMSA page', () => {
    const rig = new Rig();
    rig.rmp.launch(PAGE, [0, 0, 0], true);
    expect(rig.rmp.entry(PAGE).vmsa).toBe(true);
  });
});

describe('RMPREAD', () => {
  // @spec APM vol. 2, 15.36.3; Linux arch/x86/virt/svm/sev.c struct rmpentry
  it('gives the first word of an entry', () => {
    const rig = new Rig();
    if (!(rig.rmp instanceof RmpChapter)) throw new Error('the rig has another table');
    rig.rmp.launch(PAGE, [0, 0, 0], true);
    expect(rig.rmp.read(PAGE)).toBe((1n << 62n) | (1n << 61n) | (1n << 51n) | (BigInt(PAGE) << 12n) | 1n);
    expect(rig.rmp.read(PAGE + 1)).toBe(0n);
    rig.rmp.update(PAGE, operand(PAGE, { asid: 5, gpa: 0x7000 }));
    expect(rig.rmp.read(PAGE)).toBe((5n << 51n) | 0x7000n | 1n);
  });
});

describe('what every VMPL may do', () => {
  it('is everything with pages that belong to nobody, and follows the entry of the others', () => {
    const rig = new Rig();
    const rights = (gpn: number): readonly number[] => rig.machine.memory.permissions.map((table) => table.get(gpn));
    expect(rights(PAGE)).toEqual([ALL_RIGHTS, ALL_RIGHTS, ALL_RIGHTS, ALL_RIGHTS]);
    rig.rmp.assign(PAGE, 1, true);
    expect(rights(PAGE)).toEqual([0, 0, 0, 0]);
    rig.pvalidate(PAGE);
    // Without the feature for shadow stacks their right says nothing.
    expect(rights(PAGE)).toEqual([ALL_RIGHTS, 16, 16, 16]);
    expect(rights(TABLES)).toEqual([ALL_RIGHTS, ALL_RIGHTS, ALL_RIGHTS, ALL_RIGHTS]);
  });
});
