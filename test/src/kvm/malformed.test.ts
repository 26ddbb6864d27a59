import { isDeepStrictEqual } from 'node:util';
import { Errno, Ioctl, NUMBERS, type PlaneIoctl } from '@vmplanes/abi-kvm-planes';
import { isFailure, type KvmArgument, type KvmResult } from '@vmplanes/kvm';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { apicRig, profiles, type Programs, type Rig, type RunnableProfile } from './kit.ts';

/** Numbers that requests and arguments are made of, so that most of them get past the first check. */
const numbersOf = (profile: RunnableProfile): readonly number[] => [...Object.values(Ioctl), NUMBERS[profile].createPlane, NUMBERS[profile].createVcpuPlane].filter((n) => typeof n === 'number');

const programs: Programs = { 0: { 0: [{ op: 'out', port: 1, value: 0 }, { op: 'read', gpa: 0xd000_0000 }, { op: 'rdmsr', index: 0x1234 }, { op: 'hlt' }, { op: 'jump', to: 0 }] } };

const rigOf = (profile: RunnableProfile): Rig => apicRig(profile, [], programs, { vcpus: [0, 1], planes: { 1: [0, 1], 2: [0] } }, { maxVcpus: 8, machine: { memoryBytes: 1 << 16 } });

/** Requests that may report an error and yet have done a part: lists stop at the first entry that fails, an exit is filled in with EFAULT. */
const partial: ReadonlySet<number> = new Set<number>([Ioctl.KVM_SET_MSRS, Ioctl.KVM_GET_MSRS, Ioctl.KVM_RUN]);

const anyNumber = fc.oneof(fc.nat(20), fc.integer(), fc.constantFrom(-1, 0, 1, 2, 15, 16, 255, 2 ** 31, 2 ** 32, 2 ** 53, Number.NaN, Number.POSITIVE_INFINITY), fc.double());
const anyBigint = fc.oneof(fc.bigInt({ min: -(1n << 65n), max: 1n << 65n }), fc.constantFrom(0n, 1n, 1n << 32n, 1n << 40n, (1n << 64n) - 1n));
const anyBytes = fc.oneof(
  fc.uint8Array({ maxLength: 8 }),
  fc.uint8Array({ minLength: 400, maxLength: 4200 }),
  // Mostly zeros with a few random bytes: what a caller gets nearly right.
  fc.array(fc.tuple(fc.nat(1023), fc.nat(255)), { maxLength: 6 }).map((edits) => {
    const bytes = new Uint8Array(4352);
    for (const [at, value] of edits) bytes[at] = value;
    return bytes;
  }),
);
const anyArgument: fc.Arbitrary<KvmArgument> = fc.oneof(anyNumber, anyBigint, anyBytes, fc.constant(null));

const isOutcome = (r: KvmResult): boolean => ('ret' in r && Number.isInteger(r.ret) && r.ret >= 0) || ('errno' in r && r.errno in Errno) || ('pending' in r && ['blocked', 'preempted', 'busy'].includes(r.pending));

describe('malformed calls', () => {
  for (const profile of profiles) {
    const numbers = numbersOf(profile);
    const request = fc.oneof({ weight: 5, arbitrary: fc.constantFrom(...numbers) }, { weight: 1, arbitrary: anyNumber });
    const step = fc.record({ fd: fc.oneof({ weight: 6, arbitrary: fc.integer({ min: 3, max: 11 }) }, { weight: 1, arbitrary: anyNumber }), request, argument: anyArgument, mm: fc.constantFrom(1, 1, 1, 1, 2), thread: fc.constantFrom(1, 1, 2) });

    it(`any request on any fd with any argument returns a value, an error number or waits, and never throws [${profile}]`, () => {
      fc.assert(
        fc.property(fc.array(step, { minLength: 1, maxLength: 25 }), (steps) => {
          const rig = rigOf(profile);
          for (const s of steps) {
            const result = rig.c.system.ioctl({ mm: s.mm, thread: s.thread }, s.fd, s.request, s.argument);
            expect(isOutcome(result), JSON.stringify(result)).toBe(true);
            if (s.mm !== 1 && rig.c.system.vmOf(s.fd) !== null) expect(result).toEqual({ errno: 'EIO' });
          }
        }),
        { numRuns: 300, seed: 11 },
      );
    });

    it(`a call that fails leaves no trace [${profile}]`, () => {
      const rig = rigOf(profile);
      fc.assert(
        fc.property(step, (s) => {
          if (partial.has(s.request)) return;
          const before = rig.c.system.save();
          const result = rig.c.system.ioctl({ mm: s.mm, thread: s.thread }, s.fd, s.request, s.argument);
          if (isFailure(result)) expect(isDeepStrictEqual(rig.c.system.save(), before), JSON.stringify(result)).toBe(true);
        }),
        { numRuns: 2000, seed: 13 },
      );
    });

    it(`any bytes in the shared page are survived by KVM_RUN [${profile}]`, () => {
      const rig = rigOf(profile);
      fc.assert(
        fc.property(fc.uint8Array({ minLength: 2352, maxLength: 2352 }), (bytes) => {
          rig.page().bytes.set(bytes);
          expect(isOutcome(rig.c.call(rig.vcpu(), 'KVM_RUN' satisfies PlaneIoctl))).toBe(true);
        }),
        { numRuns: 500, seed: 17 },
      );
    });
  }
});
