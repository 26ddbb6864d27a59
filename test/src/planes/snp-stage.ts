import { buildVmsa, kvmVmsa } from '@vmplanes/abi-sev-snp';
import { createScope } from '@vmplanes/di';
import { ALL_PLANES, installEngine, InvariantChecks, PAGE_SIZE, PlaneId, type SchedulerPolicyName, Side, subject, SubjectKind } from '@vmplanes/engine';
import { personality, SevSnpVmpl } from '@vmplanes/personality-sev-snp-vmpl';
import { ScriptCpu, type Step, X86Arch } from '@vmplanes/x86';
import { type PlaneGuest, type Rank, scriptOf, type Words } from './stage.ts';

const PAGES = 0x200;
const PLANE = { upper: 0, lower: 2 } as const;
const C = 2n ** 51n;
/** Page tables, save areas and GHCBs. */
const TABLES = 0x180;
const vmsaPage = (vp: number, rank: Rank): number => 0x191 + vp * 4 + (rank === 'upper' ? 0 : 1);
const ghcbPage = (vp: number, rank: Rank): number => 0x1a0 + vp * 4 + (rank === 'upper' ? 0 : 1);
const MASK = { nothing: 0, reading: 1, everything: 0xf } as const;
const GHCB_MSR = 0xc001_0130;
const X2APIC_EOI = 0x80b;

/** Nobody comes between the request and its exit: a handler uses the same MSR. @spec GHCB 2.3.1 */
const runVmpl = (vmpl: number): readonly Step[] => [{ op: 'cli' }, { op: 'wrmsr', index: GHCB_MSR, value: (BigInt(vmpl) << 32n) | 0x16n }, { op: 'call', via: 'vmgexit' }, { op: 'sti' }, { op: 'work' }];

/** The part of a GHCB from RAX to the valid bitmap, for WRMSR of EOI. @spec GHCB 2.6, 4.1 */
const eoiRequest = (): string => {
  const FROM = 0x1f8;
  const bytes = new Uint8Array(0x400 - FROM);
  const view = new DataView(bytes.buffer);
  const put = (offset: number, value: bigint): void => {
    view.setBigUint64(offset - FROM, value, true);
    const bit = offset / 8;
    const at = 0x3f0 - FROM + (bit >>> 3);
    bytes[at]! |= 1 << (bit & 7);
  };
  put(0x1f8, 0n);
  put(0x308, BigInt(X2APIC_EOI));
  put(0x310, 0n);
  put(0x390, 0x7cn);
  put(0x398, 1n);
  put(0x3a0, 0n);
  return Buffer.from(bytes).toString('hex');
};

/** A guest with VMPL0 and VMPL2 on every VP; VMPL0 answers what the permissions of VMPL2 refuse. */
export const snpGuest = (policy: SchedulerPolicyName): PlaneGuest => ({
  name: `VMPLs under ${policy}`,
  build: (vps, makePlot) => {
    const scope = createScope();
    const arch = new X86Arch({ cpuModel: 'epyc-like' });
    const machine = installEngine(scope, { arch, policy, rule: 'deliverable', options: { maxVps: vps, maxPlanes: 3, memoryBytes: (PAGES + 64) * PAGE_SIZE, quantum: 100, ticksPerInstruction: 100 } });
    machine.setMeaning(personality.meaning!({}));
    const snp = personality.install(scope, { refusedAccess: 'vmpl0' });
    if (!(snp instanceof SevSnpVmpl)) throw new Error('not the personality');
    machine.addPersonality(snp);
    machine.memory.addSlot({ id: 0, gpa: 0, size: PAGES * PAGE_SIZE });
    const { rmp, switching } = snp.chapters;
    const inside = subject(SubjectKind.Host, ALL_PLANES, Side.OpenPrivate);
    for (let gpn = 0; gpn < TABLES + 2; gpn++) rmp.launch(gpn, [0, 0xf, 0], false);
    const put = (gpa: number, value: bigint): void => void machine.memory.access.writeU64(inside, gpa, Number(value & 0xffff_ffffn), Number(value >> 32n));
    put(TABLES * PAGE_SIZE, BigInt((TABLES + 1) * PAGE_SIZE) | C | 7n);
    put((TABLES + 1) * PAGE_SIZE, C | 0xe7n);

    const start = (rank: Rank): Uint8Array =>
      buildVmsa({
        ...kvmVmsa({ eip: 0x1000, vmpl: PLANE[rank], sevFeatures: 1n }, 0),
        cs: { selector: 8, attributes: 0xa9b, limit: 0xffff_ffff, base: 0n },
        efer: 0x1d00n, cr0: 0x8000_0033n, cr3: BigInt(TABLES * PAGE_SIZE) | C, cr4: 0x620n, rip: 0x1000n, rflags: 0x202n,
      });
    const words: Words = {
      toUpper: runVmpl(PLANE.upper),
      toLower: runVmpl(PLANE.lower),
      protect: (page, rights) => [{ op: 'instruction', name: 'rmpadjust', regs: { rax: page * PAGE_SIZE, rcx: 0, rdx: PLANE.lower | (MASK[rights] << 8) } }, { op: 'expect', register: 'rax', equals: 0 }],
      at: (gpa) => BigInt(gpa) | C,
      end: (vp, rank) => [
        { op: 'fill', gpa: ghcbPage(vp, rank) * PAGE_SIZE + 0x1f8, bytes: eoiRequest() },
        { op: 'wrmsr', index: GHCB_MSR, value: ghcbPage(vp, rank) * PAGE_SIZE },
        { op: 'call', via: 'vmgexit' },
      ],
    };
    const plot = makePlot(words);
    const cpus: ScriptCpu[] = [];
    for (let v = 0; v < vps; v++) {
      const vp = machine.createVp();
      machine.createPlane(vp, PlaneId(PLANE.lower));
      for (const rank of ['upper', 'lower'] as const) {
        const gpn = vmsaPage(v, rank);
        rmp.launch(gpn, [0, 0, 0], true);
        machine.memory.access.write(inside, gpn * PAGE_SIZE, start(rank), 0, PAGE_SIZE);
        const plane = switching.plane(vp, PLANE[rank])!;
        plane.vmsa = gpn * PAGE_SIZE;
        plane.registeredGhcb = ghcbPage(v, rank) * PAGE_SIZE;
        const apic = arch.apicOf(plane.context);
        apic.writeApicBase(0xfee0_0c00 | (v === 0 ? 0x100 : 0), 0, true);
        apic.writeSvr(0x1ff);
      }
      // The launch begins with the upper plane; it lets the lower one go on before anything else.
      const cpu = new ScriptCpu(machine, arch, { [PLANE.upper]: { script: scriptOf(words, plot, v, 'upper', words.toLower) }, [PLANE.lower]: { script: scriptOf(words, plot, v, 'lower') } });
      machine.setCpu(vp, cpu);
      cpus.push(cpu);
      switching.start(switching.plane(vp, PLANE.upper)!);
    }
    machine.checks = new InvariantChecks(machine);
    // Every VP into its lower plane, one instruction at a time.
    for (let i = 0; machine.vps.some((vp) => vp.current !== PLANE.lower); i++) {
      if (i > 100) throw new Error('the lower planes were never entered');
      machine.run(1);
    }
    return {
      machine,
      arch,
      cpus,
      plane: PLANE,
      peek: (gpa, size = 8) => {
        const bytes = new Uint8Array(size);
        machine.memory.access.read(inside, gpa, bytes, 0, size);
        return bytes;
      },
    };
  },
});
