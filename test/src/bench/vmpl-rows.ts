import { buildVmsa, kvmVmsa, SnpLevel } from '@vmplanes/abi-sev-snp';
import { createScope } from '@vmplanes/di';
import { ALL_PLANES, type CpuExit, HostError, installEngine, type Machine, PAGE_SIZE, PlaneId, Side, subject, SubjectKind, type Vp } from '@vmplanes/engine';
import { personality, SevSnpVmpl, type SnpPlane } from '@vmplanes/personality-sev-snp-vmpl';
import { CallKind, X86Arch } from '@vmplanes/x86';
import { sample } from './measure.ts';
import { CallingCpu } from './rigs.ts';
import type { BenchRow } from './rows.ts';

const RUN_VMPL = 0x16;
const LOWER = 2;
/** Page of the first save area. */
const AREAS = 0x101;

/** VMPL0 and VMPL2 run each other: the request is in the GHCB MSR, as a guest puts it there without an exit. */
class RunningCpu extends CallingCpu {
  constructor(
    readonly upper: SnpPlane,
    readonly lower: SnpPlane,
  ) {
    super();
    this.exits.call.key = CallKind.Vmgexit;
  }
  override run(vp: Vp): CpuExit {
    const isUpper = vp.current === 0;
    const plane = isUpper ? this.upper : this.lower;
    plane.ghcbMsrLo = RUN_VMPL;
    plane.ghcbMsrHi = isUpper ? LOWER : 0;
    return super.run(vp);
  }
}

/** A guest whose VMPL0 and VMPL2 run each other without end, each from a save area in guest memory. */
export const runVmplGuest = (): { readonly machine: Machine; readonly vp: Vp } => {
  const scope = createScope();
  const arch = new X86Arch({ cpuModel: 'epyc-like' });
  const machine = installEngine(scope, { arch, policy: 'lowest-runnable', rule: 'deliverable', options: { maxVps: 1, maxPlanes: 4, memoryBytes: 8 << 20 } });
  const options = { level: SnpLevel.SevSnp };
  const snp = personality.install(scope, options);
  if (!(snp instanceof SevSnpVmpl) || !personality.meaning) throw new HostError('Internal', 'bench: not the SEV-SNP personality');
  machine.setMeaning(personality.meaning(options));
  machine.addPersonality(snp);
  machine.memory.addSlot({ id: 0, gpa: 0, size: 4 << 20 });
  const vp = machine.createVp();
  const host = subject(SubjectKind.Host, ALL_PLANES, Side.Private);
  const { rmp, switching, features } = snp.chapters;
  const planes = [0, LOWER].map((vmpl) => {
    if (vmpl > 0) machine.createPlane(vp, PlaneId(vmpl));
    const plane = switching.plane(vp, vmpl)!;
    plane.vmsa = (AREAS + vmpl) * PAGE_SIZE;
    rmp.launch(AREAS + vmpl, [0, 0, 0], true);
    machine.memory.access.write(host, plane.vmsa, buildVmsa(kvmVmsa({ eip: 0x1000, vmpl, sevFeatures: BigInt(features.machineLo) }, 0)), 0, PAGE_SIZE);
    return plane;
  });
  machine.setCpu(vp, new RunningCpu(planes[0]!, planes[1]!));
  return { machine, vp };
};

/** Lets a guest make `n` exits. */
export const runExits = ({ machine, vp }: { readonly machine: Machine; readonly vp: Vp }, n: number): void => {
  vp.sliceEnd = vp.retired + n;
  machine.runVp(vp);
};

/** The rows of VMPL switches. */
export const vmplRows: readonly BenchRow[] = [
  {
    id: 'snp.runvmpl.roundtrip',
    about: 'Run VMPL and back through the MSR protocol, with both save areas stored and loaded',
    run: () => {
      const guest = runVmplGuest();
      const median = sample(20_000, (n) => runExits(guest, 2 * n));
      if (guest.vp.statistics.switches < guest.vp.statistics.exits - 1) throw new HostError('Internal', 'bench: VMPLs do not run each other');
      return median;
    },
  },
];
