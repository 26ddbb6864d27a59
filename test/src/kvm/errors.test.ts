import { admission, ERRORS, FdKind, Ioctl, KvmRunPlanes, NUMBERS, type PlaneIoctl, type Profile } from '@vmplanes/abi-kvm-planes';
import { type KvmResult } from '@vmplanes/kvm';
import { describe, expect, it } from 'vitest';
import { errorCases, notServed } from './error-cases.ts';
import { profiles, Rig, type RunnableProfile, word } from './kit.ts';

const outcome = (result: KvmResult): string => ('ret' in result ? 'ok' : word(result));

describe('error table of KVM planes', () => {
  for (const row of ERRORS) {
    for (const [profile, expected] of Object.entries(row.expect) as readonly (readonly [Profile, string | number])[]) {
      it(`${row.source}: ${row.id} [${profile}] ${row.call} on ${row.fd}, ${row.condition}: ${expected}`, () => {
        const scenario = errorCases[row.id];
        expect(scenario, `no case for ${row.id}`).toBeDefined();
        const result = scenario!(profile as RunnableProfile);
        expect(typeof expected === 'number' ? word(result) : outcome(result)).toBe(String(expected));
      });
    }
  }
  it('every case belongs to a row', () => {
    expect(Object.keys(errorCases).filter((id) => !ERRORS.some((row) => row.id === id))).toEqual([]);
  });
});

/** Every request on every kind of fd: what the admission table refuses is refused so, what it admits is served or on the list of what is not. */
describe('admission of requests', () => {
  const names = [...Object.keys(Ioctl), 'KVM_CREATE_PLANE', 'KVM_CREATE_VCPU_PLANE'] as readonly PlaneIoctl[];
  for (const profile of profiles) {
    it.each(Object.values(FdKind))(`LKML 2025-04-01 RFC KVM: VM planes 09/29, 13/29: %s fd [${profile}]`, (kind) => {
      const rig = new Rig(profile, { planes: { 1: [0] } });
      const fd = { vm: rig.built.vmFd, plane: rig.planeFd(1), vcpu: rig.vcpu(), planeVcpu: rig.fd(1) }[kind];
      // A run that began would hold its lock against the requests after it.
      rig.page().bytes[KvmRunPlanes.at.immediateExit] = 1;
      for (const name of names) {
        const numbers: Readonly<Record<string, number | null | undefined>> = { ...Ioctl, KVM_CREATE_PLANE: NUMBERS[profile].createPlane, KVM_CREATE_VCPU_PLANE: NUMBERS[profile].createVcpuPlane };
        const number = numbers[name];
        if (typeof number !== 'number') continue;
        const expected = admission(profile, kind, name);
        // A null pointer: whatever is served looks at its argument, takes it for 0, or needs none.
        const got = word(rig.c.system.ioctl(rig.c.caller, fd, number, null));
        if (expected !== 'allowed') expect(got, `${name} on ${kind}`).toBe(expected);
        else if (name in notServed) expect(got, `${name} on ${kind}`).toBe(kind === 'vm' || kind === 'plane' ? 'ENOTTY' : 'EINVAL');
        else if (name === 'KVM_SMI') expect(got, 'system management mode by VM type').toBe(rig.vm.type.hasSmm ? '0' : 'ENOTTY');
        else expect(got, `${name} on ${kind}`).not.toBe('ENOTTY');
      }
    });
  }
});
