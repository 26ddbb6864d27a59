import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  Capability, ExitFailEntry, ExitHw, ExitHypercall, ExitInternalError, ExitIo, ExitIoapicEoi, ExitMemoryFault, ExitMmio, ExitMsr, ExitReason, ExitSystemEvent, Ioctl, KvmCpuid2, KvmCpuidEntry2, KvmDebugregs, KvmDtable, KvmEnableCap,
  KvmFpu, KvmIrqRouting, KvmIrqRoutingEntry, KvmLapicState, KvmMemoryAttributes, KvmMpState, KvmMsi, KvmMsrEntry, KvmMsrs, KvmNestedState, KvmOneReg, KvmRegList, KvmRegs, KvmRun, KvmRunPlanes, KvmSegment, KvmSregs,
  KvmSregs2, KvmTranslation, KvmUserspaceMemoryRegion, KvmVcpuEvents, KvmXcr, KvmXcrs, KvmXsave, MpState, MSI_VALID_DEVID, MsrExitReason, IrqRouting, RouteHvSint, RouteIrqchip, RouteMsi, RouteXenEvtchn, VcpuEventValid,
} from '@vmplanes/abi-kvm-planes';
import type { Struct } from '@vmplanes/binary';
import { describe, expect } from 'vitest';
import { requirement, systemTool } from '../support/system-tool.ts';

/** The installed kernel headers as oracle: a C program prints numbers, sizes and offsets, which must be ours. */
const gcc = systemTool('gcc', { debianPackage: 'gcc', command: 'gcc' });
const headers = requirement(
  gcc.isMet && process.arch === 'x64' && ['/usr/include/linux/kvm.h', '/usr/include/stdio.h'].every((file) => existsSync(file)),
  'needs gcc and the kernel headers of x86-64', 'apt-get install -y gcc libc6-dev linux-libc-dev',
);

const snake = (name: string): string => name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
/** Names that mainline does not have, or that stand for an anonymous union. */
const OURS = new Set(['plane', 'suspendedPlanes', 'reqExitPlanes', 'exit']);

interface Probe { readonly label: string; readonly c: string; readonly value: number; readonly guard?: string }
const offsets = (type: string, prefix: string, fields: Struct['fields'], base: number): Probe[] =>
  Object.entries(fields).flatMap(([name, [offset, layout]]) => {
    if (name.startsWith('reserved') || OURS.has(name)) return [];
    const path = `${prefix}${snake(name)}`;
    const inner = layout.kind === 'struct' ? offsets(type, `${path}.`, (layout as Struct).fields, base + offset) : [];
    return [{ label: `offsetof ${type} ${path}`, c: `offsetof(struct ${type}, ${path})`, value: base + offset }, ...inner];
  });
const structure = (layout: { name: string; size: number; fields: object }, guard?: string): Probe[] => {
  const probes = [{ label: `sizeof ${layout.name}`, c: `sizeof(struct ${layout.name})`, value: layout.size }, ...offsets(layout.name, '', layout.fields as Struct['fields'], 0)];
  return guard === undefined ? probes : probes.map((p) => ({ ...p, guard }));
};
const payload = (layout: { name: string; size: number; fields: object }, guard?: string): Probe[] => {
  const probes = [{ label: `sizeof ${layout.name}`, c: `sizeof(((struct kvm_run *)0)->${layout.name})`, value: layout.size }, ...offsets('kvm_run', `${layout.name}.`, layout.fields as Struct['fields'], 32)];
  return guard === undefined ? probes : probes.map((p) => ({ ...p, guard }));
};
const macros = (prefix: string, table: Readonly<Record<string, number>>): Probe[] => Object.entries(table).map(([name, value]) => ({ label: prefix + name, c: prefix + name, value, guard: prefix + name }));

const PROBES: readonly Probe[] = [
  ...macros('', Ioctl), ...macros('KVM_CAP_', Capability), ...macros('KVM_EXIT_', ExitReason), ...macros('KVM_MP_STATE_', MpState), ...macros('KVM_VCPUEVENT_VALID_', VcpuEventValid),
  ...macros('KVM_MSR_EXIT_REASON_', MsrExitReason), ...macros('KVM_IRQ_ROUTING_', IrqRouting), ...macros('KVM_', { MSI_VALID_DEVID }),
  ...[KvmRun, KvmRunPlanes, KvmRegs, KvmSegment, KvmDtable, KvmSregs, KvmSregs2, KvmFpu, KvmXsave, KvmLapicState, KvmVcpuEvents, KvmDebugregs, KvmXcr, KvmXcrs, KvmNestedState, KvmMsrEntry, KvmCpuidEntry2, KvmMpState, KvmOneReg,
    KvmRegList, KvmTranslation, KvmMsi, KvmEnableCap, KvmUserspaceMemoryRegion, RouteIrqchip, RouteMsi, RouteHvSint, RouteXenEvtchn, KvmIrqRoutingEntry, KvmMsrs.header, KvmCpuid2.header, KvmIrqRouting.header].flatMap((l) => structure(l)),
  ...structure(KvmMemoryAttributes, 'KVM_SET_MEMORY_ATTRIBUTES'),
  ...[ExitHw, ExitFailEntry, ExitIo, ExitMmio, ExitHypercall, ExitMsr, ExitInternalError, ExitSystemEvent, ExitIoapicEoi].flatMap((l) => payload(l)),
  ...payload(ExitMemoryFault, 'KVM_EXIT_MEMORY_FAULT'),
  { label: 'exit union', c: 'offsetof(struct kvm_run, hw)', value: KvmRun.at.exit },
];

describe('installed kernel headers', () => {
  headers.it('numbers, sizes and offsets are ours', () => {
    const folder = mkdtempSync(join(tmpdir(), 'kvm-abi-'));
    try {
      const line = (p: Probe, i: number): string => {
        const print = `printf("${i} %llu\\n", (unsigned long long)(${p.c}));`;
        return p.guard ? `#ifdef ${p.guard}\n${print}\n#endif` : print;
      };
      writeFileSync(join(folder, 'abi.c'), `#include <stddef.h>\n#include <stdio.h>\n#include <linux/kvm.h>\nint main(void) {\n${PROBES.map(line).join('\n')}\nreturn 0; }\n`);
      const compiled = spawnSync('gcc', ['-o', 'abi', 'abi.c'], { cwd: folder, encoding: 'utf8' });
      expect(compiled.stderr).not.toContain('error:');
      const printed = spawnSync(join(folder, 'abi'), { encoding: 'utf8' }).stdout.trim().split('\n').map((l) => l.split(' ').map(Number) as [number, number]);
      const theirs = Object.fromEntries(printed.map(([i, value]) => [PROBES[i]!.label, value]));
      const ours = Object.fromEntries(printed.map(([i]) => [PROBES[i]!.label, PROBES[i]!.value]));
      expect(ours).toEqual(theirs);
      // Old headers lack the newest calls; all else must have been compared.
      expect(printed.length).toBeGreaterThan(PROBES.length - 20);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
