import { SevFeature, VmplPermission } from '@vmplanes/abi-sev-snp';
import { ALL_RIGHTS, Right } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { type Done, FREE, Rig, TABLES, updateOperand, View } from './rig.ts';

const PAGE = FREE + 3;
const GPA = PAGE * 4096;
const VC = { fault: { vector: 29, errorCode: 0x404 }, exit: null };
const FINE = { fault: null, exit: null };
/** Bits 31:0 of EXITINFO1: RMP, U and P. */
const RMP_UP = 0x8000_0005;
/** Bits 63:32: final address, walk, ENC, VMPL. @spec APM vol. 2, 15.36.10 */
const Hi = { final: 1, walk: 2, enc: 4, sizem: 8, vmpl: 16, sss: 32 } as const;

describe('accesses with C=1', () => {
  it('to a shared page are a nested page fault with ENC and without P: the host is asked to change its side', () => {
    const rig = new Rig();
    expect(rig.read(PAGE)).toMatchObject({ fault: null, exit: { kind: 'memoryFault', info: { gpa: GPA, isPrivate: true, missing: 0 } } });
    expect(rig.stored).toEqual([{ vmpl: 0, code: 0x400, info1Lo: 4, info1Hi: Hi.final | Hi.enc, info2: GPA }]);
  });
  it.each(['read', 'write', 'execute'] as const)('to a page that is not validated: %s is #VC 0x404, and never an exit', (access) => {
    const rig = new Rig();
    rig.rmp.assign(PAGE, 1, true);
    expect(rig[access](PAGE)).toMatchObject(VC);
    expect(rig.stored).toEqual([]);
  });
  it.each([1, 2, 3])('to a page that is not validated are #VC 0x404 at VMPL%i, too, whatever its mask', (vmpl) => {
    const rig = new Rig();
    rig.validPage(PAGE, [15, 15, 15]);
    rig.pvalidate(PAGE, { validate: false });
    expect(rig.read(PAGE, { vmpl })).toMatchObject(VC);
  });
  it('to a validated page are done at VMPL0 whatever the masks', () => {
    const rig = new Rig();
    rig.validPage(PAGE);
    expect(rig.write(PAGE, { value: 5n })).toMatchObject(FINE);
    expect(rig.read(PAGE)).toMatchObject({ ...FINE, eax: 5 });
    expect(rig.execute(PAGE)).toMatchObject(FINE);
  });
  it('to an immutable page are a nested page fault with RMP and ENC', () => {
    const rig = new Rig();
    rig.validPage(PAGE);
    rig.rmp.update(PAGE, updateOperand(PAGE, { immutable: 1 }));
    expect(rig.read(PAGE)).toMatchObject({ exit: { kind: 'rmpFault', gpa: GPA, access: 'read', errorLo: RMP_UP, errorHi: Hi.final | Hi.enc } });
  });
  it.each([['guest', { asid: 7 }], ['address', { gpa: 0x1000 }]] as const)('to a page of another %s are a nested page fault with RMP and ENC', (_what, what) => {
    const rig = new Rig();
    rig.validPage(PAGE);
    rig.rmp.update(PAGE, updateOperand(PAGE, what));
    expect(rig.write(PAGE)).toMatchObject({ exit: { kind: 'rmpFault', access: 'write', errorLo: RMP_UP + 2, errorHi: Hi.final | Hi.enc } });
  });
  it('to a page that the VMM made private by itself get their entry from the host, and then are #VC 0x404', () => {
    const rig = new Rig();
    rig.machine.memory.setPrivate(PAGE, 1, true);
    expect(rig.read(PAGE)).toMatchObject(VC);
    expect(rig.rmp.entry(PAGE)).toMatchObject({ assigned: true, validated: false });
  });
  it('to a page that was private, shared and private again are #VC 0x404: the validation is gone', () => {
    const rig = new Rig();
    rig.validPage(PAGE);
    rig.rmp.assign(PAGE, 1, false);
    rig.rmp.assign(PAGE, 1, true);
    expect(rig.read(PAGE)).toMatchObject(VC);
  });
});

describe('accesses with C=0', () => {
  it('to a shared page are done by every VMPL', () => {
    const rig = new Rig();
    for (const vmpl of [0, 1, 2, 3]) expect(rig.write(PAGE, { vmpl, view: View.Shared })).toMatchObject(FINE);
  });
  it.each([false, true])('to a private page (validated: %s) are a nested page fault without ENC', (validated) => {
    const rig = new Rig();
    if (validated) rig.validPage(PAGE);
    else rig.rmp.assign(PAGE, 1, true);
    expect(rig.read(PAGE, { view: View.Shared })).toMatchObject({ exit: { kind: 'memoryFault', info: { gpa: GPA, isPrivate: false } } });
    expect(rig.stored).toEqual([{ vmpl: 0, code: 0x400, info1Lo: 4, info1Hi: Hi.final, info2: GPA }]);
  });
  it('to a page that the host maps shared although it is assigned are a nested page fault with RMP', () => {
    const rig = new Rig();
    rig.rmp.update(PAGE, updateOperand(PAGE));
    expect(rig.read(PAGE, { view: View.Shared })).toMatchObject({ exit: { kind: 'rmpFault', gpa: GPA, errorLo: RMP_UP, errorHi: Hi.final } });
  });
  it('reach another store than those with C=1 did', () => {
    const rig = new Rig();
    rig.validPage(PAGE);
    rig.write(PAGE, { value: 0x1111n });
    rig.machine.memory.setPrivate(PAGE, 1, false);
    expect(rig.read(PAGE, { view: View.Shared })).toMatchObject({ ...FINE, eax: 0 });
    expect(rig.peek(GPA, true)).toBe(0x1111n);
  });
  it('find zeros after the host changed the side of a page', () => {
    const rig = new Rig();
    rig.write(PAGE, { view: View.Shared });
    rig.rmp.assign(PAGE, 1, true);
    rig.rmp.assign(PAGE, 1, false);
    expect(rig.read(PAGE, { view: View.Shared })).toMatchObject({ ...FINE, eax: 0 });
  });
});

describe('permissions of a VMPL', () => {
  const tries: readonly (readonly [name: string, permission: number, access: (rig: Rig, vmpl: number) => Done, errorLo: number])[] = [
    ['read', VmplPermission.Read, (rig, vmpl) => rig.read(PAGE, { vmpl }), RMP_UP],
    ['write', VmplPermission.Write, (rig, vmpl) => rig.write(PAGE, { vmpl }), RMP_UP + 2],
    ['supervisor fetch', VmplPermission.ExecuteSupervisor, (rig, vmpl) => rig.execute(PAGE, { vmpl }), RMP_UP + 16],
    ['user fetch', VmplPermission.ExecuteUser, (rig, vmpl) => rig.execute(PAGE, { vmpl, user: true }), RMP_UP + 16],
  ];
  describe.each([1, 2, 3])('at VMPL%i', (vmpl) => {
    it.each(tries)('%s needs its own permission and no other', (name, permission, access, errorLo) => {
      const rig = new Rig();
      const perms: [number, number, number] = [0, 0, 0];
      perms[vmpl - 1] = permission;
      rig.validPage(PAGE, perms);
      expect(access(rig, vmpl)).toMatchObject(FINE);
      perms[vmpl - 1] = 0xf & ~permission;
      rig.validPage(PAGE, perms);
      expect(access(rig, vmpl)).toMatchObject({
        fault: null,
        exit: { kind: 'vmplFault', vp: 0, plane: vmpl, gpa: GPA, access: name.includes('fetch') ? 'execute' : name, errorLo, errorHi: Hi.final | Hi.enc | Hi.vmpl },
      });
      expect(rig.stored).toEqual([{ vmpl, code: 0x400, info1Lo: errorLo, info1Hi: Hi.final | Hi.enc | Hi.vmpl, info2: GPA }]);
    });
  });

  it('the guest takes no exception for a refusal, and the instruction has no effect', () => {
    const rig = new Rig();
    rig.validPage(PAGE, [1, 0, 0]);
    const rip = rig.get('rip', 1);
    rig.write(PAGE, { vmpl: 1 });
    expect(rig.get('rip', 1)).toBe(rip);
    expect(rig.peek(GPA, true)).toBe(0n);
  });
  it('a refused access is never tried again without the VMM: it must reply first', () => {
    const rig = new Rig();
    rig.validPage(PAGE);
    rig.read(PAGE, { vmpl: 1 });
    expect(() => rig.machine.runVp(rig.machine.vp(0))).toThrow("waits for the reply to 'refused'");
  });
  it('after the reply the instruction runs again, and is refused again while nothing changed', () => {
    const rig = new Rig();
    rig.validPage(PAGE, [0, 0, 0]);
    rig.read(PAGE, { vmpl: 1 });
    rig.machine.reply(rig.context(1), {});
    expect(rig.read(PAGE, { vmpl: 1 })).toMatchObject({ exit: { kind: 'vmplFault' } });
    rig.machine.reply(rig.context(1), {});
    rig.rmp.adjust(0, PAGE, false, 1, 1, false);
    expect(rig.read(PAGE, { vmpl: 1 })).toMatchObject(FINE);
  });
  it('with the option vmpl0 a refusal runs VMPL0, with the exit in the VMSA of the lower VMPL', () => {
    const rig = new Rig({ refusedAccess: 'vmpl0' });
    rig.validPage(PAGE);
    expect(rig.read(PAGE, { vmpl: 2 })).toMatchObject({ exit: null, fault: null });
    expect(rig.machine.vp(0).current).toBe(0);
    expect(rig.stored).toMatchObject([{ vmpl: 2, code: 0x400, info1Hi: Hi.final | Hi.enc | Hi.vmpl, info2: GPA }]);
  });
  it('refuse a walk through a table that the VMPL may not read, with the bit for tables of the guest', () => {
    const rig = new Rig();
    rig.validPage(PAGE, [15, 15, 15]);
    rig.rmp.adjust(0, TABLES, false, 3, 0, false);
    expect(rig.read(PAGE, { vmpl: 3 })).toMatchObject({ exit: { kind: 'vmplFault', gpa: TABLES * 4096, access: 'read', errorLo: RMP_UP, errorHi: Hi.walk | Hi.enc | Hi.vmpl } });
  });
  it('need no execute permission where the page is only read: the masks are independent', () => {
    const rig = new Rig();
    rig.validPage(PAGE, [VmplPermission.Read, 0, 0]);
    expect(rig.read(PAGE, { vmpl: 1 })).toMatchObject(FINE);
    expect(rig.read(PAGE, { vmpl: 2 })).toMatchObject({ exit: { kind: 'vmplFault' } });
  });
  it('are all gone after the host took the page and gave it back', () => {
    const rig = new Rig();
    rig.validPage(PAGE, [15, 15, 15]);
    rig.rmp.assign(PAGE, 1, false);
    rig.rmp.assign(PAGE, 1, true);
    rig.pvalidate(PAGE);
    expect(rig.rmp.entry(PAGE).perms).toEqual([0, 0, 0]);
    expect(rig.read(PAGE, { vmpl: 1 })).toMatchObject({ exit: { kind: 'vmplFault' } });
  });
  it('say nothing of a page on its shared side', () => {
    const rig = new Rig();
    rig.validPage(PAGE);
    rig.rmp.assign(PAGE, 1, false);
    for (const { plane } of rig.contexts) expect(rig.machine.memory.permissions[plane]!.get(PAGE)).toBe(ALL_RIGHTS);
  });
  it('the VMSA bit by itself keeps neither VMPL0 nor a VMPL with the permission out', () => {
    const rig = new Rig();
    rig.rmp.launch(PAGE, [1, 0, 0], true);
    expect(rig.read(PAGE)).toMatchObject(FINE);
    expect(rig.write(PAGE)).toMatchObject(FINE);
    expect(rig.read(PAGE, { vmpl: 1 })).toMatchObject(FINE);
    expect(rig.read(PAGE, { vmpl: 2 })).toMatchObject({ exit: { kind: 'vmplFault' } });
  });
});

describe('supervisor shadow stacks', () => {
  const shadow = (rig: Rig, mask: number): boolean => {
    rig.validPage(PAGE, [mask, 0, 0]);
    return (rig.machine.memory.permissions[1]!.get(PAGE) & Right.ShadowStack) !== 0;
  };
  const { Read, Write, SupervisorShadowStack } = VmplPermission;
  it.each([[Read | SupervisorShadowStack, true], [Read | Write | SupervisorShadowStack, false], [Read, false]] as const)('with the feature VMPL_SSS mask 0x%x allows them: %s', (mask, expected) => expect(shadow(new Rig({ features: ['VmplSss'] }), mask)).toBe(expected));
  it('without the feature the fifth permission says nothing', () => expect([shadow(new Rig(), Read), shadow(new Rig(), Read | SupervisorShadowStack)]).toEqual([true, true]));
});

describe('virtual top of memory', () => {
  // @spec APM vol. 2, 15.36.8
  const rigAt = (tom: number): Rig => new Rig({ features: ['VirtualTom'], virtualTom: `0x${tom.toString(16)}` });
  it('data below it is private and data above it shared, whatever the C-bit says', () => {
    const rig = rigAt(GPA + 4096);
    rig.validPage(PAGE);
    expect(rig.read(PAGE, { view: View.Shared })).toMatchObject(FINE);
    expect(rig.read(PAGE + 1, { view: View.Private })).toMatchObject(FINE);
  });
  it('data at it is shared', () => {
    const rig = rigAt(GPA);
    rig.validPage(PAGE);
    expect(rig.read(PAGE)).toMatchObject({ exit: { kind: 'memoryFault', info: { isPrivate: false } } });
  });
  it('tables and code above it are private all the same', () => {
    const rig = rigAt(0x1000);
    rig.validPage(PAGE);
    expect(rig.execute(PAGE)).toMatchObject(FINE);
    rig.rmp.assign(PAGE + 1, 1, false);
    expect(rig.read(PAGE + 1)).toMatchObject(FINE);
  });
  it('counts only for the VMPL whose VMSA has the feature', () => {
    const rig = rigAt(GPA + 4096);
    rig.plane(1).featuresLo &= ~(1 << SevFeature.VirtualTom);
    rig.validPage(PAGE, [15, 0, 0]);
    expect(rig.read(PAGE, { vmpl: 1, view: View.Shared })).toMatchObject({ exit: { kind: 'memoryFault', info: { isPrivate: false } } });
  });
});
