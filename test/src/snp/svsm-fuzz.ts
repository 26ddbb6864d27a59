import { SvsmAttestServices } from '@vmplanes/abi-svsm';
import { AccessResult, type ExitPayload, type MemoryFaultInfo } from '@vmplanes/engine';
import type { SevSnpVmpl } from '@vmplanes/personality-sev-snp-vmpl';
import { createVm, encodeSnapshot, type RunResult } from '@vmplanes/vmm';
import type { GeneratorScript, Step } from '@vmplanes/x86';
import { type Code, GuestCode } from '../snp-demo/guest-code.ts';
import { bundled } from '../snp-traces/plugins.ts';

// Guests that do what comes to a seed's mind: calls of the SVSM with every kind of argument, requests through GHCB MSR and page, RMP instructions.

/** Numbers 0 up to 1, a pure function of the seed. */
const randomOf = (seed: number) => {
  let state = seed >>> 0 || 1;
  return (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
};

const AREA = 0x80_f000;
const AREA1 = 0x80_b000;
const VMSA1 = 0x80_c000;
const GHCB = 0x80_9000;
const PAGES = [0x80_0000, 0x80_1000, 0x80_2000] as const;
/** Pages that may become VMSAs: the guest writes them for nothing else. */
const VMSAS = [0x80_3000, 0x80_4000, 0x80_5000] as const;
const FRESH = 0x100_0000;
/** Addresses that mean something, and some that do not. */
const ADDRESSES = [0, 1, 8, 0x1000, 0xa_0000, AREA, AREA + 8, AREA1, AREA1 + 8, VMSA1, GHCB, ...PAGES, ...VMSAS, 0x80_0008, 0x80_0ff8, 0x800_0000, 0x8a4_0000, 0x900_0000, FRESH, FRESH + 0x1000, 0x120_0000, 0xa00_0000, 0xffff_ffff_f000, 0xffff_ffff_ffff_f000n, 0xffff_ffff_ffff_ffffn] as const;

/** A guest of one processor. */
function* wander(seed: number, steps: number, code: GuestCode, vp: number): Code {
  const random = randomOf(seed);
  const below = (n: number): number => Math.floor(random() * n);
  const pick = <T>(list: readonly T[]): T => list[below(list.length)]!;
  const address = (): bigint => (BigInt(pick(ADDRESSES)) + (below(8) === 0 ? BigInt(below(4096)) : 0n)) & 0xffff_ffff_ffff_ffffn;
  const page = (): number => pick(PAGES);
  const acts: readonly (() => Code<unknown>)[] = [
    () => code.svsm((BigInt(below(6)) << 32n) | BigInt(below(10)), { rcx: address(), rdx: address(), r8: BigInt(below(4)) }, 'msr'),
    () => code.svsm(1n, { rcx: BigInt(pick([code.area + 8, page()])) }, 'msr'),
    // Lists with entries of every kind.
    function* () {
      const entries = Array.from({ length: 1 + below(5) }, () => (BigInt(pick(ADDRESSES)) & ~0xfffn & 0xf_ffff_ffff_ffffn) | BigInt(below(16)) | (below(20) === 0 ? 0x10n : 0n));
      yield* code.words(code.area + 8, BigInt(entries.length + (below(10) === 0 ? 600 : 0)) | (BigInt(below(3)) << 16n), ...entries);
      return yield* code.svsm(1n, { rcx: code.area + 8 }, 'msr');
    },
    function* () {
      const bytes = new Uint8Array(SvsmAttestServices.size);
      SvsmAttestServices.write(new DataView(bytes.buffer), 0, {
        reportGpa: address(), reportSize: below(0x2000), nonceGpa: BigInt(page()), nonceSize: pick([64, 64, 64, 63]), manifestGpa: address(), manifestSize: below(0x1000), certificateGpa: address(), certificateSize: pick([0, 0x1000, 0x4000, 0x5000]),
      });
      yield* code.fill(page(), bytes);
      return yield* code.svsm(1n << 32n, { rcx: page() }, 'msr');
    },
    () => code.pageState(pick([FRESH, FRESH + 0x1000, 0x120_0000, 0x40_0000, 0xa00_0000, 0x800_0000]), below(2) === 0),
    () => code.msr(BigInt(pick([0x002, 0x004, 0x010, 0x012, 0x014, 0x016, 0x080, 0x200])) | (BigInt(below(0x1000)) << 12n) | (BigInt(below(5)) << 32n)),
    // VMPLs that are there, and one that no machine has.
    () => code.createAp(pick([1, 1, 1, 2]), pick([0, 2, 2, 4]), pick([VMSA1, VMSA1, VMSA1, ...VMSAS]), below(4), pick([1, 1, 1, 0x11])),
    function* () {
      const vmsa = pick(VMSAS);
      if (below(3) === 0) yield* code.svsm(3n, { rcx: vmsa }, 'msr');
      else yield* code.svsm(2n, { rcx: vmsa, rdx: page(), r8: below(3) }, 'msr');
    },
    () => code.exit({ swExitCode: pick([0x8000_0010n, 0x8000_0011n, 0x8000_0013n, 0x8000_0014n, 0x8000_0017n, 0x8000_0018n, 0x8000_fffdn, 0x72n, 0x7cn, 0x9999n]), swExitInfo1: address(), swExitInfo2: address(), rax: address(), rcx: address(), swScratch: BigInt(GHCB + 0x800) }),
    function* () {
      const regs = { rax: address(), rcx: below(2), rdx: below(0x2_0000) };
      yield { op: 'instruction', name: pick(['pvalidate', 'rmpadjust', 'rmpquery']), regs } as Step;
    },
    function* () {
      yield { op: 'write', gpa: pick([code.area, page() + 8 * below(511)]) + 2 ** 51, value: below(2 ** 31), size: pick([1, 2, 4, 8]) };
    },
    function* () {
      yield { op: 'work', cost: 1 + below(300) };
    },
  ];
  for (let i = 0; i < steps; i++) yield* pick(acts)();
  if (vp === 0) yield* code.createAp(1, 2, VMSA1, 2);
}

const script: GeneratorScript = {
  id: 'wander',
  *main(args) {
    const seed = Number(args['seed']);
    const steps = Number(args['steps']);
    const vp = Number(args['vp']);
    const code = new GuestCode(vp === 0 ? AREA : AREA1);
    if (vp === 0) {
      yield* code.openGhcb(GHCB);
      yield* code.fillVmsa(VMSA1, 2, 0x1000);
      yield* code.svsm(2n, { rcx: VMSA1, rdx: AREA1, r8: 1 }, 'msr');
      yield* code.createAp(1, 2, VMSA1);
    } else code.ghcb = GHCB;
    yield* wander(seed * 2 + vp, steps, code, vp);
  },
  *handler() {},
};

/** What a wandering guest did. */
export interface Wandered {
  readonly result: RunResult;
  readonly checks: number;
  readonly calls: number;
  /** The last state, as a file would hold it. */
  readonly last: Uint8Array;
  /** Steps of both processors. */
  readonly retired: number;
}

/** Runs one seed. @param cut - slices after which the machine is saved and goes on as another one. */
export async function wanderOnce(seed: number, steps: number, { deviations = [] as readonly string[], check = true, cut = 0 } = {}): Promise<Wandered> {
  const config = {
    type: 'sev-snp-builtin-svsm', name: 'wanderer', vps: 2, quantum: 60, seed: (seed % 3) * 77,
    personalities: [{ use: 'sev-snp-vmpl', options: { platformSeed: '5a'.repeat(48), svsmApic: seed % 2 === 0, svsmDeviations: [...deviations], svsmBusyEvery: seed % 5 === 0 ? 7 : 0, svsmIncompleteEvery: seed % 4 === 0 ? 2 : 0 } }],
    scripts: { run: [0, 1].map((vp) => ({ vp, plane: 2, script: 'wander', args: { seed, steps, vp } })) },
  };
  const make = () => createVm(config, { plugins: bundled, scripts: [script], check });
  let vm = await make();
  let calls = 0;
  // Each side of a page is there for whoever asks for it: the host converts it.
  const onExit = ({ payload }: { readonly payload: ExitPayload }) => {
    const { info } = payload as { readonly info?: MemoryFaultInfo };
    if (payload.kind !== 'memoryFault' || info === undefined || info.result !== AccessResult.Mismatch) return 'stop' as const;
    (vm.machine.personality('sev-snp-vmpl') as SevSnpVmpl).chapters.rmp.assign(Math.floor(info.gpa / 4096), 1, info.isPrivate);
    return 'continue' as const;
  };
  try {
    if (cut > 0) {
      const { reason } = await vm.run({ maxSlices: cut, onExit });
      if (reason !== 'slices') throw new Error(`the guest of seed ${seed} ended before slice ${cut}: ${reason}`);
      const saved = structuredClone(vm.snapshot());
      vm.close();
      vm = await make();
      vm.restore(saved);
    }
    vm.events.on('plane-switch', ({ to }) => void (calls += to === 0 ? 1 : 0));
    const result = await vm.run({ onExit, maxSlices: 20_000 });
    return { result, checks: vm.machine.checks?.count ?? 0, calls, last: encodeSnapshot(vm.snapshot()), retired: vm.machine.vps.reduce((sum, vp) => sum + vp.retired, 0) };
  } finally {
    vm.close();
  }
}
