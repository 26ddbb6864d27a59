import { createVm } from '@vmplanes/vmm';
import type { Script } from '@vmplanes/x86';

const hello: Script = { id: 'hello', steps: [{ op: 'out', port: 0xe9, value: 0x21 }, { op: 'cpuid', leaf: 1 }, { op: 'work', cost: 100 }] };

export async function embed(): Promise<string> {
  const vm = await createVm({ vps: 1, memory: '1MiB', seed: 7, scripts: { run: [{ vp: 0, script: 'hello' }] } }, { scripts: [hello] });
  vm.events.on('vm-exit', ({ vp, plane, kind }) => process.stderr.write(`VP ${vp} plane ${plane}: ${kind}\n`));
  const { reason } = await vm.run({ onExit: ({ payload }) => (payload.kind === 'io' ? 'continue' : 'stop') });
  const saved = vm.snapshot();
  vm.restore(saved);
  vm.close();
  return `${reason}, RIP ${vm.inspect('vps/0/planes/0/registers/rip')}`;
}
