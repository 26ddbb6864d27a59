import type { JsonRecord } from '@vmplanes/trace';
import { parseTrace } from '@vmplanes/trace';
import { createVm } from '@vmplanes/vmm';
import { beforeAll, describe, expect, it } from 'vitest';
import { scripts } from './guests.ts';
import { bundled } from './plugins.ts';
import { configOf, launch } from './scenarios.ts';

const word = (d: JsonRecord, lo: string, hi: string): string => `0x${((BigInt(Number(d[hi])) << 32n) | BigInt(Number(d[lo]))).toString(16)}`;

// The messages of an SVSM from its start to the first calls of its guest, in order. @spec coconut-svsm kernel/src/svsm.rs, kernel/src/sev
describe('an SVSM that is an image of its own', () => {
  let messages: readonly string[] = [];
  let reason = '';
  beforeAll(async () => {
    const lines: string[] = [];
    const vm = await createVm(configOf(launch), { plugins: bundled, scripts, check: true, trace: (line) => void lines.push(line) });
    ({ reason } = await vm.run());
    vm.close();
    messages = parseTrace(lines).records.flatMap((r) => {
      if (r.k === 'switch') return [`switch ${r.from} to ${r.to}: ${r.why}`];
      if (r.k === 'vmexit') return [`exit ${r.x}`];
      if (r.k !== 'note') return [];
      const d = r.d as JsonRecord;
      return [r.name === 'nae' ? String(d['event']) : `${word(d, 'requestLo', 'requestHi')} > ${word(d, 'replyLo', 'replyHi')}`];
    });
  });

  it('starts, makes its guest, serves it and ends', () => expect(reason).toBe('exit'));
  it('goes message by message', () => {
    expect(messages).toEqual([
      '0x10000008001014 > 0x15', '0x10000008002014 > 0x15',
      '0x2 > 0x2000133000001',
      '0x20000008a30014 > 0x15', '0x8a30012 > 0x8a30013',
      'MSR', 'MSR', 'MSR', 'MSR',
      'exit io', 'IOIO', 'IOIO', 'exit io',
      '0x80 > 0x37081',
      '#HV doorbell page', 'CPUID',
      '0x10000000808014 > 0x15', '0x1000000080d014 > 0x15', '0x1000000080f014 > 0x15',
      '0x10000008a40014 > 0x15', 'AP creation',
      '0x200000016 > 0x17', 'switch 0 to 2: run-vmpl',
      // The guest makes a page private and has it validated.
      '0x10000000100014 > 0x15', '0x16 > 0x17', 'switch 2 to 0: run-vmpl', '0x200000016 > 0x17', 'switch 0 to 2: run-vmpl',
      // A call that this SVSM does not know ends it.
      '0x16 > 0x17', 'switch 2 to 0: run-vmpl', '0x100 > 0x100', 'exit sevTermination',
    ]);
  });
});
