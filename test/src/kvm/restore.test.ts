import { isDeepStrictEqual } from 'node:util';
import { ExitIo, ExitReason, KvmRegs, KvmRunPlanes, NUMBERS } from '@vmplanes/abi-kvm-planes';
import { HostError } from '@vmplanes/engine';
import { type KvmClient, type KvmResult, KvmSystem } from '@vmplanes/kvm';
import { type Step } from '@vmplanes/x86';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { apicRig, client, profiles, type Programs, word } from './kit.ts';

const out = (port: number): Step => ({ op: 'out', port, value: 0 });
const guest = (id: string, port: number) => ({
  id,
  steps: [{ op: 'sti' }, out(port), { op: 'read', gpa: 0xd000_0000, size: 4 }, { op: 'hlt' }, out(port + 1), { op: 'rdmsr', index: 0x277 }, { op: 'work', cost: 3000 }, { op: 'jump', to: 1 }] as const,
  handlers: { 192: [{ op: 'eoi' }, out(port + 2)] as const },
});
const programs: Programs = { 0: { 0: guest('v0p0', 0x10), 1: guest('v0p1', 0x20), 2: guest('v0p2', 0x30) }, 1: { 0: guest('v1p0', 0x40), 1: guest('v1p1', 0x50) } };

/** Little memory: states are compared byte by byte. */
const small = { machine: { memoryBytes: 1 << 16 } };

/** One call of a VMM: what it does depends on the fds only, so it can be repeated in a restored process. */
type Move = (c: KvmClient, fds: Fds) => KvmResult;
interface Fds { readonly vm: number; readonly planes: readonly number[]; readonly vcpus: readonly number[]; readonly planeVcpus: readonly number[] }

const page = (c: KvmClient, fd: number): Uint8Array => {
  const mapped = c.system.mmap(c.caller, fd, 0);
  return 'bytes' in mapped ? mapped.bytes : new Uint8Array(4096);
};
const run = (vcpu: number, plane: number, request: number): Move => (c, fds) => {
  const bytes = page(c, fds.vcpus[vcpu]!);
  if (c.system.behaviour.scheduler !== 'lowest-runnable') {
    bytes[KvmRunPlanes.at.plane] = plane;
    new DataView(bytes.buffer, bytes.byteOffset).setUint16(KvmRunPlanes.at.reqExitPlanes, request, true);
  }
  // The answer to a device read, if one is due.
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(40, 0x1000 + plane, true);
  return c.call(fds.vcpus[vcpu]!, 'KVM_RUN');
};
const moves: readonly Move[] = [
  run(0, 0, 0b110),
  run(0, 1, 0b101),
  run(0, 2, 0),
  run(1, 0, 0b10),
  run(1, 1, 0),
  (c, fds) => c.signalMsi(fds.vm, 192),
  (c, fds) => c.signalMsi(fds.planes[0]!, 192),
  (c, fds) => c.signalMsi(fds.planes[0]!, 192, 1),
  (c, fds) => c.call(fds.vcpus[0]!, 'KVM_NMI'),
  (c, fds) => c.call(fds.planeVcpus[0]!, 'KVM_SET_REGS', new Uint8Array(KvmRegs.size).fill(2)),
  (c) => (c.system.raise(1, 10), { ret: 0 }),
  (c) => (c.system.take(1, 10), { ret: 0 }),
  (c, fds) => (c.system.vmOf(fds.vm)!.advance(5000), { ret: 0 }),
];

const see = (c: KvmClient, fds: Fds, result: KvmResult): string => {
  const reasons = fds.vcpus.map((fd) => {
    const bytes = page(c, fd);
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const reason = view.getUint32(8, true);
    return reason === ExitReason.IO ? `io${ExitIo.read(view, 32).port}` : String(reason);
  });
  return `${word(result)} ${reasons.join(' ')}`;
};

describe('a restored process goes on as the saved one would', () => {
  for (const profile of profiles) {
    it(`random calls of a VMM, cut anywhere [${profile}]`, () => {
      fc.assert(
        fc.property(fc.array(fc.nat(moves.length - 1), { minLength: 4, maxLength: 30 }), fc.nat(29), (list, cutAt) => {
          const rig = apicRig(profile, [], programs, { vcpus: [0, 1], planes: { 1: [0, 1], 2: [0] } }, small);
          const fds: Fds = {
            vm: rig.built.vmFd,
            planes: [1, 2].map((p) => rig.planeFd(p)),
            vcpus: [0, 1].map((id) => rig.vcpu(id)),
            planeVcpus: [rig.fd(1), rig.fd(2)],
          };
          const cut = cutAt % list.length;
          for (const i of list.slice(0, cut)) moves[i]!(rig.c, fds);
          const state = structuredClone(rig.c.system.save());
          const other = client(profile, programs, small);
          const fresh = new KvmSystem({ profile, vm: other.system.vmConfig });
          fresh.restore(state);
          expect(isDeepStrictEqual(fresh.save(), state), 'restored equals saved').toBe(true);
          const twin = Object.assign(Object.create(Object.getPrototypeOf(other) as object) as KvmClient, { system: fresh, caller: rig.c.caller, fd: rig.c.fd });
          const rest = list.slice(cut);
          expect(rest.map((i) => see(twin, fds, moves[i]!(twin, fds)))).toEqual(rest.map((i) => see(rig.c, fds, moves[i]!(rig.c, fds))));
          expect(isDeepStrictEqual(fresh.save(), rig.c.system.save()), 'both end in one state').toBe(true);
        }),
        { numRuns: 100, seed: 7 },
      );
    });
  }

  it('a shared FPU, an open file and a statistics fd come back as they were', () => {
    const c = client('2025-04', programs);
    const vmFd = c.do(c.fd, 'KVM_CREATE_VM');
    c.must(c.enableCap(vmFd, NUMBERS['2025-04'].capPlanesFpu!, 1));
    const vcpu = c.do(vmFd, 'KVM_CREATE_VCPU', 0);
    c.do(vcpu, 'KVM_GET_STATS_FD');
    c.must(c.system.openOther('log'));
    const state = c.system.save();
    const fresh = new KvmSystem({ profile: '2025-04', vm: c.system.vmConfig });
    fresh.restore(structuredClone(state));
    expect(fresh.fds.list().map(([fd, f]) => [fd, f.kind, f.label])).toEqual(c.system.fds.list().map(([fd, f]) => [fd, f.kind, f.label]));
    expect(fresh.vmOf(vmFd)!.machine.sharing.isShared('xmm0')).toBe(true);
    expect(fresh.save()).toEqual(state);
  });
  it('refuses another version, another profile and a process in use, by name', () => {
    const c = client('vmplanes');
    const state = c.system.save();
    const fresh = (profile: '2025-04' | 'vmplanes') => new KvmSystem({ profile });
    const code = (use: () => void): string => {
      try {
        use();
        return 'none';
      } catch (error) {
        return error instanceof HostError ? error.code : String(error);
      }
    };
    expect(code(() => fresh('vmplanes').restore({ ...state, version: 99 }))).toBe('BadSnapshot');
    expect(code(() => fresh('2025-04').restore(state))).toBe('BadSnapshot');
    expect(code(() => c.system.restore(state))).toBe('BadState');
    expect(code(() => new KvmSystem({ profile: '2024-10' }))).toBe('BadConfig');
  });
});
