import { parseTrace, recordTrace, Replay } from '@vmplanes/trace';
import type { Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { C, runVmpl, VmplRig, vmsaOf } from './vmpl-rig.ts';

const hlt: Step = { op: 'hlt' };
const area = C + vmsaOf(0, 2);

/** VMPL0 runs VMPL2, looks at its save area, changes it, runs it again. */
const programs = [{
  0: [
    ...runVmpl(2),
    { op: 'read', gpa: area + 0x1f8, size: 8 },
    { op: 'write', gpa: area + 0x308, size: 8, value: 0x99 },
    { op: 'write', gpa: area + 0x1f8, size: 8, value: 0 },
    ...runVmpl(2),
    { op: 'read', gpa: area + 0x318, size: 8 },
    hlt,
  ] satisfies Step[],
  2: [{ op: 'work', regs: { rax: 0x1234, rbx: 7 } }, ...runVmpl(0), { op: 'expect', register: 'rcx', equals: 0x99 }, { op: 'work', regs: { rbx: 8 } }, ...runVmpl(0), hlt] satisfies Step[],
}];
const build = (withPrograms: boolean): VmplRig => new VmplRig({ vmsas: [0, 2], checked: false, ...(withPrograms ? { programs } : {}) });

describe('a trace of VMPLs that run each other', () => {
  const rig = build(true);
  const lines: string[] = [];
  const recorder = recordTrace(rig.machine, {}, (line) => lines.push(line));
  rig.run();
  recorder.finish('idle');

  it('is of a run that came to its end', () => expect([rig.failure(), rig.get('rax'), rig.get('rbx', 0, 2)]).toEqual([null, 8n, 8n]));
  it('replays: every entry, exit, switch and register, what VMPL0 wrote into the save area included', () => {
    const other = build(false);
    const report = new Replay(other.machine, parseTrace(lines)).run();
    expect(report.divergences).toEqual([]);
    expect(report.ok, report.summary).toBe(true);
    expect([other.get('rax'), other.get('rbx', 0, 2), other.get('rcx', 0, 2)]).toEqual([8n, 8n, 0x99n]);
  });
});
