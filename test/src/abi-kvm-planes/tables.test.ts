import {
  ADMISSION, admission, CHECK_EXTENSION, DISPUTES, Errno, ERRORS, ExtensionRule, extensionRow, type FdKind, Ioctl, LAYOUTS, NUMBER_NAMES, NUMBERS, numberOf, PLANE_VCPU_IOCTLS, type PlaneIoctl,
  type Profile, PROFILE_INFO, PROFILES, RULES, RUNNABLE_PROFILES, SELFTESTS,
} from '@vmplanes/abi-kvm-planes';
import { describe, expect, test } from 'vitest';

describe('numbers', () => {
  test('of the two series, as their headers print them', () => {
    const io = (nr: number): number => (0xae << 8) | nr;
    expect([NUMBERS['2025-04'].createPlane, NUMBERS['2025-04'].createVcpuPlane, NUMBERS['2026-06'].createPlane]).toEqual([io(0xd6), io(0xd7), io(0xe4)]);
    expect([NUMBERS['2025-04'].capPlanes, NUMBERS['2025-04'].capPlanesFpu, NUMBERS['2026-06'].capPlanes]).toEqual([239, 240, 249]);
    expect([NUMBERS['2025-04'].exitPlaneEvent, NUMBERS['2026-06'].exitPlaneEvent]).toEqual([40, 44]);
    expect(PROFILES.map((p) => [NUMBERS[p].causeInterrupt, NUMBERS[p].causeCreateVcpu])).toEqual([[0, undefined], [1, undefined], [undefined, 1], [1, undefined]]);
    expect(RUNNABLE_PROFILES.map((p) => NUMBERS[p].maxPlanes)).toEqual([16, 16, 16]);
  });
  test('that a profile lacks are refused by name', () => {
    expect(numberOf('2025-04', 'capPlanesFpu')).toBe(240);
    expect(() => numberOf('2026-06', 'capPlanesFpu')).toThrow('KVM_CAP_PLANES_FPU: not in profile 2026-06');
    expect(() => numberOf('2024-10', 'createPlane')).toThrow('KVM_CREATE_PLANE: has no number in profile 2024-10');
  });
  test('of reused calls', () => {
    const known = { KVM_CHECK_EXTENSION: 0xae03, KVM_CREATE_VCPU: 0xae41, KVM_CREATE_IRQCHIP: 0xae60, KVM_RUN: 0xae80, KVM_ENABLE_CAP: 0x4068aea3, KVM_SIGNAL_MSI: 0x4020aea5, KVM_SET_MEMORY_ATTRIBUTES: 0x4020aed2 } as const;
    expect(Ioctl).toMatchObject(known);
  });
  test('no two requests have one number, plane requests included', () => {
    for (const profile of RUNNABLE_PROFILES) {
      const numbers = [...Object.values(Ioctl), NUMBERS[profile].createPlane, NUMBERS[profile].createVcpuPlane].filter((n) => n !== undefined);
      expect(new Set(numbers).size).toBe(numbers.length);
    }
  });
});

test('the list of a plane vCPU fd has the 27 entries of the patch', () => {
  const numbers = PLANE_VCPU_IOCTLS.map((name) => Ioctl[name] & 0xff).sort((a, b) => a - b);
  // REGS, SREGS, TRANSLATE, MSRS, FPU, LAPIC, VCPU_EVENTS, DEBUGREGS, XSAVE, XCRS, ONE_REG, REG_LIST, NESTED_STATE, SREGS2, XSAVE2
  expect(numbers).toEqual([
    0x81, 0x82, 0x83, 0x84, 0x85, 0x88, 0x89, 0x8c, 0x8d, 0x8e, 0x8f, 0x9f, 0xa0, 0xa1, 0xa2, 0xa4, 0xa5, 0xa6, 0xa7, 0xab, 0xac, 0xb0, 0xbe, 0xbf, 0xcc, 0xcd, 0xcf,
  ]);
});

/** request, fd, then the answers of 2025-04, 2026-06 and vmplanes; typed by hand from the patches. */
const ADMITTED: readonly (readonly [PlaneIoctl | undefined, FdKind, string, string, string])[] = [
  ['KVM_CREATE_PLANE', 'vm', 'allowed', 'allowed', 'allowed'],
  ['KVM_CREATE_PLANE', 'plane', 'ENOTTY', 'ENOTTY', 'ENOTTY'],
  ['KVM_CREATE_PLANE', 'planeVcpu', 'EINVAL', 'EINVAL', 'EINVAL'],
  ['KVM_CREATE_VCPU', 'vm', 'allowed', 'allowed', 'allowed'],
  ['KVM_CREATE_VCPU', 'plane', 'ENOTTY', 'allowed', 'ENOTTY'],
  ['KVM_CREATE_VCPU_PLANE', 'vm', 'ENOTTY', 'ENOTTY', 'ENOTTY'],
  ['KVM_CREATE_VCPU_PLANE', 'plane', 'allowed', 'ENOTTY', 'allowed'],
  ['KVM_CREATE_VCPU_PLANE', 'planeVcpu', 'EINVAL', 'EINVAL', 'EINVAL'],
  ['KVM_CHECK_EXTENSION', 'plane', 'allowed', 'ENOTTY', 'allowed'],
  ['KVM_SIGNAL_MSI', 'plane', 'allowed', 'allowed', 'allowed'],
  ['KVM_SIGNAL_MSI', 'planeVcpu', 'EINVAL', 'EINVAL', 'EINVAL'],
  ['KVM_SET_MEMORY_ATTRIBUTES', 'plane', 'allowed', 'ENOTTY', 'allowed'],
  ['KVM_SET_GSI_ROUTING', 'vm', 'allowed', 'allowed', 'allowed'],
  ['KVM_SET_GSI_ROUTING', 'plane', 'ENOTTY', 'allowed', 'ENOTTY'],
  ['KVM_ENABLE_CAP', 'vm', 'allowed', 'allowed', 'allowed'],
  ['KVM_ENABLE_CAP', 'plane', 'ENOTTY', 'ENOTTY', 'ENOTTY'],
  ['KVM_ENABLE_CAP', 'vcpu', 'allowed', 'allowed', 'allowed'],
  ['KVM_ENABLE_CAP', 'planeVcpu', 'EINVAL', 'EINVAL', 'EINVAL'],
  ['KVM_RUN', 'vm', 'ENOTTY', 'ENOTTY', 'ENOTTY'],
  ['KVM_RUN', 'plane', 'ENOTTY', 'ENOTTY', 'ENOTTY'],
  ['KVM_RUN', 'vcpu', 'allowed', 'allowed', 'allowed'],
  ['KVM_RUN', 'planeVcpu', 'EINVAL', 'EINVAL', 'EINVAL'],
  ['KVM_GET_MP_STATE', 'vcpu', 'allowed', 'allowed', 'allowed'],
  ['KVM_GET_MP_STATE', 'planeVcpu', 'EINVAL', 'EINVAL', 'allowed'],
  ['KVM_SET_MP_STATE', 'planeVcpu', 'EINVAL', 'EINVAL', 'allowed'],
  ['KVM_TRANSLATE', 'planeVcpu', 'allowed', 'allowed', 'allowed'],
  ['KVM_GET_REGS', 'plane', 'ENOTTY', 'ENOTTY', 'ENOTTY'],
  ['KVM_GET_REGS', 'vm', 'ENOTTY', 'ENOTTY', 'ENOTTY'],
  ['KVM_CREATE_IRQCHIP', 'vm', 'allowed', 'allowed', 'allowed'],
  ['KVM_CREATE_IRQCHIP', 'plane', 'ENOTTY', 'ENOTTY', 'ENOTTY'],
  ['KVM_CREATE_IRQCHIP', 'vcpu', 'EINVAL', 'EINVAL', 'EINVAL'],
  ['KVM_SET_CPUID2', 'vcpu', 'allowed', 'allowed', 'allowed'],
  ['KVM_SET_CPUID2', 'planeVcpu', 'EINVAL', 'EINVAL', 'EINVAL'],
  ['KVM_SET_TSC_KHZ', 'vm', 'allowed', 'allowed', 'allowed'],
  ['KVM_SET_TSC_KHZ', 'vcpu', 'allowed', 'allowed', 'allowed'],
  ['KVM_SET_TSC_KHZ', 'planeVcpu', 'EINVAL', 'EINVAL', 'EINVAL'],
  ['KVM_CREATE_VM', 'vm', 'ENOTTY', 'ENOTTY', 'ENOTTY'],
  [undefined, 'vm', 'ENOTTY', 'ENOTTY', 'ENOTTY'],
  [undefined, 'plane', 'ENOTTY', 'ENOTTY', 'ENOTTY'],
  [undefined, 'vcpu', 'EINVAL', 'EINVAL', 'EINVAL'],
  [undefined, 'planeVcpu', 'EINVAL', 'EINVAL', 'EINVAL'],
];

describe('which request on which fd', () => {
  test.each(ADMITTED)('%s on %s', (ioctl, fd, ...answers) => {
    expect(RUNNABLE_PROFILES.map((p) => admission(p, fd, ioctl))).toEqual(answers);
  });
  test('a plane vCPU fd takes exactly its list, and MP state in our profile', () => {
    for (const profile of RUNNABLE_PROFILES) {
      const taken = Object.keys(Ioctl).filter((name) => admission(profile, 'planeVcpu', name as Ioctl) === 'allowed');
      const extra = profile === 'vmplanes' ? ['KVM_GET_MP_STATE', 'KVM_SET_MP_STATE'] : [];
      expect(taken.sort()).toEqual([...PLANE_VCPU_IOCTLS, ...extra].sort());
    }
  });
  test('no request has two rows in one profile', () => {
    for (const profile of RUNNABLE_PROFILES) {
      const names = ADMISSION.filter((r) => r.profiles.includes(profile)).map((r) => r.ioctl);
      expect(new Set(names).size).toBe(names.length);
    }
  });
});

describe('KVM_CHECK_EXTENSION', () => {
  test('a plane fd of 2025-04 knows three capabilities', () => {
    const nonzero = CHECK_EXTENSION.filter((r) => r.profile === '2025-04' && r.plane !== 0).map((r) => r.capability);
    expect(nonzero).toEqual(['CHECK_EXTENSION_VM', 'SIGNAL_MSI']);
    expect(extensionRow('2025-04', 'MEMORY_ATTRIBUTES')?.plane).toBe(0);
    expect(extensionRow('2025-04', 'XSAVE2')?.plane).toBe(0);
  });
  test('the two FPU capabilities have opposite polarity', () => {
    expect([extensionRow('vmplanes', 'PLANES_FPU')?.vm, extensionRow('vmplanes', 'PLANE_FPU')?.vm]).toEqual(['fpuShared', 'fpuSplit']);
  });
  test('every answer is a number, a rule or ENOTTY, and every profile answers every capability', () => {
    const answers = CHECK_EXTENSION.flatMap((r) => [r.system, r.vm, r.plane]);
    for (const a of answers) expect(typeof a === 'number' || a === 'ENOTTY' || a in ExtensionRule, String(a)).toBe(true);
    for (const name of new Set(CHECK_EXTENSION.map((r) => r.capability))) expect(CHECK_EXTENSION.filter((r) => r.capability === name).map((r) => r.profile)).toEqual(RUNNABLE_PROFILES);
  });
});

/** The strict errors, typed by hand: row id and errno under 2025-04. */
const STRICT: readonly (readonly [string, string])[] = [
  ['create-plane.zero', 'EEXIST'], ['create-plane.exists', 'EEXIST'], ['create-plane.too-high', 'EINVAL'], ['create-vcpu-plane.on-vm', 'ENOTTY'], ['create-vcpu-plane.closed', 'EBADF'],
  ['create-vcpu-plane.not-int', 'EBADF'], ['create-vcpu-plane.not-vcpu', 'EINVAL'], ['create-vcpu-plane.other-vm', 'EINVAL'], ['create-vcpu-plane.exists', 'EEXIST'], ['run.on-plane', 'ENOTTY'],
  ['run.on-plane-vcpu', 'EINVAL'], ['any.plane-unknown', 'ENOTTY'], ['any.plane-vcpu-list', 'EINVAL'], ['plane-vcpu.KVM_GET_MP_STATE', 'EINVAL'], ['plane-vcpu.KVM_SET_CPUID2', 'EINVAL'],
  ['plane-vcpu.KVM_ENABLE_CAP', 'EINVAL'], ['plane-vcpu.KVM_NMI', 'EINVAL'], ['attributes.private-on-plane', 'EINVAL'], ['irqchip.after-plane', 'EINVAL'], ['split-irqchip.after-plane', 'EEXIST'],
  ['fpu.after-vcpu', 'EINVAL'], ['fpu.value', 'EINVAL'], ['fpu.protected', 'EINVAL'], ['cpuid.changed', 'EINVAL'], ['any.foreign', 'EIO'],
];

describe('error rows', () => {
  test.each(STRICT)('%s is %s', (id, errno) => expect(ERRORS.find((r) => r.id === id)?.expect['2025-04']).toBe(errno));
  test('ids differ and outcomes are known', () => {
    expect(new Set(ERRORS.map((r) => r.id)).size).toBe(ERRORS.length);
    for (const outcome of ERRORS.flatMap((r) => Object.values(r.expect))) expect(outcome === 'ok' || typeof outcome === 'number' || outcome in Errno).toBe(true);
  });
  test('agree with the admission table: a row on an fd that refuses the request has that refusal', () => {
    for (const row of ERRORS) {
      if (row.call === 'any' || row.fd === 'any') continue;
      for (const [profile, outcome] of Object.entries(row.expect) as [Profile, string | number][]) {
        const answer = admission(profile, row.fd, row.call === 'unknown' ? undefined : row.call);
        if (answer !== 'allowed') expect([row.id, profile, outcome]).toEqual([row.id, profile, answer]);
      }
    }
  });
});

describe('data for comparison and coverage', () => {
  test('every question has an answer of every profile, positions and a source', () => {
    expect(DISPUTES.map((d) => d.id)).toEqual(Array.from({ length: 19 }, (_, i) => `Q${i + 1}`));
    for (const d of DISPUTES) {
      expect(Object.keys(d.answers)).toEqual(PROFILES);
      expect(d.positions.length).toBeGreaterThan(0);
      expect(d.sources.length).toBeGreaterThan(0);
    }
  });
  test('the selftests: 9 generic, 7 for x86, 1 for PKRU, 18 that are missing', () => {
    const count = (group: string): number => SELFTESTS.filter((t) => t.group === group).length;
    expect(['generic', 'x86', 'pkru', 'missing'].map(count)).toEqual([9, 7, 1, 18]);
    expect(new Set(SELFTESTS.map((t) => t.id)).size).toBe(SELFTESTS.length);
    for (const t of SELFTESTS) expect(RUNNABLE_PROFILES.some((p) => p in t.expect), t.id).toBe(true);
  });
  test('sources name a document', () => {
    const cited = [...ERRORS, ...ADMISSION, ...CHECK_EXTENSION, ...SELFTESTS, ...Object.values(NUMBER_NAMES)].map((r) => r.source).concat(DISPUTES.flatMap((d) => d.sources));
    for (const source of cited) expect(source).toMatch(/^(LKML \d{4}-|Linux |COCONUT-SVSM|vmplanes: )/);
  });
  test('every profile is described, and the rules agree with the other tables', () => {
    expect(Object.keys(PROFILE_INFO)).toEqual(PROFILES);
    expect(Object.keys(LAYOUTS)).toEqual(PROFILES);
    for (const profile of RUNNABLE_PROFILES) {
      const rules = RULES[profile]!;
      expect(admission(profile, 'planeVcpu', 'KVM_SET_MP_STATE') === 'allowed').toBe(rules.mpStateOnPlanes);
      expect(admission(profile, 'plane', 'KVM_CREATE_VCPU') === 'allowed').toBe(rules.createVcpu === 'create-vcpu-on-plane-fd');
      expect(NUMBERS[profile].capPlanesFpu !== undefined).toBe(rules.sharedFpu);
      expect(admission(profile, 'plane', 'KVM_SET_GSI_ROUTING') === 'allowed').toBe(rules.routes === 'last-writer');
      expect(LAYOUTS[profile].gsiRouting.of.at).toHaveProperty(rules.routes === 'per-route' ? 'plane' : 'reservedPad');
    }
  });
});
