import { ApCreationRequest, Vmsa } from '@vmplanes/abi-sev-snp';
import { Activity, PAGE_SIZE } from '@vmplanes/engine';
import type { Step } from '@vmplanes/x86';
import { afterAll, describe, expect, it } from 'vitest';
import { type Bounds, explore, type Scenario, summary, type World } from '../explore/explorer.ts';
import { C, runVmpl, SNP, VmplRig, vmsaOf } from './vmpl-rig.ts';

// Two processors: the first runs its VMPL2, the second changes the save area of that VMPL, at every point: before, while and after the
// first one runs from it.

const AREA = C + vmsaOf(0, 2);
const OTHER = 0x181 * PAGE_SIZE;
const SVME = 0x1000;
const hlt: Step = { op: 'hlt' };
const points = ['vmsa:loaded', 'vmsa:leaving'] as const;
const bounds = (depth: number): Bounds => ({ depth, intrusions: 1, nesting: 1, vpPoints: points, resumeOneIn: 32 });
const put = (field: keyof typeof Vmsa.at, value: number): Step => ({ op: 'write', gpa: AREA + Vmsa.at[field], size: 8, value });
const holds = (field: keyof typeof Vmsa.at, value: number): readonly Step[] => [
  { op: 'read', gpa: AREA + Vmsa.at[field], size: 8 },
  { op: 'expect', register: 'rax', equals: value },
];
const lines: string[] = [];
afterAll(() => console.log(lines.join('\n')));

/** VMPL2 counts in RBX and hands back; VMPL0 runs it twice. */
const runs: readonly Step[] = [...runVmpl(2), ...runVmpl(2), hlt];
const counts: readonly Step[] = [{ op: 'work', regs: { rbx: 1 } }, ...runVmpl(0), { op: 'work', regs: { rbx: 2 } }, ...runVmpl(0), hlt];

interface Race {
  readonly name: string;
  readonly writer: readonly Step[];
  readonly breakIt?: (rig: VmplRig) => void;
  readonly acts?: (rig: VmplRig) => World['parties'];
  readonly wrong?: (rig: VmplRig, refused: number) => readonly string[];
}

const scenario = ({ name, writer, breakIt, acts, wrong }: Race): Scenario => ({
  name,
  build: () => {
    const rig = new VmplRig({ vps: 2, vmsas: [0], checked: false, programs: [{ 0: runs, 2: counts }, { 0: writer }] });
    rig.giveVmsa(0, 2);
    breakIt?.(rig);
    const notes = new Int32Array(1);
    return {
      machine: rig.machine,
      arch: rig.arch,
      notes,
      parties: acts?.(rig) ?? [],
      onExit: (vp) => {
        if (vp.exit?.kind === 'entryRefused') notes[0]!++;
      },
      settled: () => {
        const why: string[] = [];
        for (const vp of [0, 1]) {
          const failure = rig.failure(vp);
          if (failure !== null) why.push(failure);
        }
        if (!rig.cpus[1]!.finished(0) || rig.context(1).activity === Activity.Held) why.push('the writer is not done');
        if (rig.plane(0, 2).isLive) why.push('VMPL2 runs from its save area at rest');
        return [...why, ...(wrong?.(rig, notes[0]!) ?? [])];
      },
    };
  },
});

const parks: Race = {
  name: 'parking a VMPL',
  // Once the store of SVME = 0 is done the VMPL has left and does not come back: nothing writes over it.
  writer: [put('efer', 0), ...holds('efer', 0), { op: 'work' }, ...holds('efer', 0), put('efer', SVME)],
  wrong: (rig) => (rig.field('efer', 0, 2) === BigInt(SVME) ? [] : ['EFER is not what was written last']),
};
const edits: Race = {
  name: 'editing a register of a parked VMPL',
  writer: [put('efer', 0), put('r9', 0x77), ...holds('r9', 0x77), put('efer', SVME)],
  // Nobody else writes R9: the edit reaches the VMPL or waits in the area, but is never lost.
  wrong: (rig) => (rig.field('r9', 0, 2) === 0x77n ? [] : ['the edit of R9 is lost']),
};
const destroys: Race = {
  name: 'a save area is replaced',
  writer: [{ op: 'work' }],
  acts: (rig) => {
    rig.snp.chapters.rmp.launch(OTHER / PAGE_SIZE, [0, 0, 0], true);
    rig.page(2, { rip: 0x9000n }).forEach((byte, i) => byte !== 0 && rig.putByte(OTHER + i, byte, true));
    const create = (request: number) => (): void => void rig.snp.chapters.aps.create(rig.plane(1), request | (2 << 16), 0, OTHER, SNP);
    return [
      { name: 'create', times: 1, points, act: create(ApCreationRequest.Create) },
      { name: 'destroy', times: 1, points, act: create(ApCreationRequest.Destroy) },
    ];
  },
  wrong: (rig) => {
    const plane = rig.plane(0, 2);
    const why: string[] = [];
    if (plane.pendingVmsa >= 0 && !plane.isWaitingForReset) why.push('a save area waits for nothing');
    if (plane.vmsa >= 0 && plane.vmsa !== OTHER && plane.vmsa !== vmsaOf(0, 2)) why.push('the save area is neither');
    // The old page is nobody's any more once the new one is there: it is not guarded, and nothing is stored in it.
    if (plane.vmsa === OTHER && rig.snp.chapters.vmsas.isInUse(vmsaOf(0, 2) / PAGE_SIZE)) why.push('the old save area is in use');
    return why;
  },
};

describe('a second processor and the save area of a VMPL', () => {
  it.each([['parking', parks, 10], ['editing', edits, 10], ['replacing', destroys, 6]] as const)('%s: no order loses a write, leaves anybody asleep or breaks an invariant', (_name, race, depth) => {
    const report = explore(scenario(race), bounds(depth));
    lines.push(summary(report));
    expect(report.failure).toBeNull();
    expect(report.states).toBeGreaterThan(20);
    expect(report.intrusions).toBeGreaterThan(3);
  });
  it('a guard that holds nobody is found: the exit writes over the store', () => {
    const broken: Race = { ...parks, breakIt: (rig) => void Object.assign(rig.snp.chapters.vmsas, { accessed: () => 'allow' }) };
    expect(explore(scenario(broken), bounds(5)).failure?.why).toContain('expected 0');
  });
  it('a guard that nobody is told of is found: the writer sleeps for ever', () => {
    const broken: Race = { ...parks, breakIt: (rig) => void (rig.machine.release = () => {}) };
    expect(explore(scenario(broken), bounds(5)).failure?.why).toContain('the writer is not done');
  });
});
