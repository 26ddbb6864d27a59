import { SvsmResult as R } from '@vmplanes/abi-svsm';
import type { SnpOptions } from '@vmplanes/personality-sev-snp-vmpl';
import { describe, expect, it } from 'vitest';
import { At, SvsmRig } from './svsm-rig.ts';

const getRandom = '80010000000c0000017b0008';
const random = '8001000000140000000000081122334455667788';
const bytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'));
const hex = (b: Uint8Array): string => Buffer.from(b).toString('hex');
const le32 = (n: number): string => hex(new Uint8Array(new Uint32Array([n]).buffer));

const rigWith = (buffer: string, answer: string | null = random, options: Partial<SnpOptions> = {}, at: number = At.a): SvsmRig => {
  const rig = new SvsmRig({ vtpm: true, ...options });
  rig.tpm.push(answer);
  rig.write(at, bytes(buffer));
  return rig;
};
const send = (rig: SvsmRig, rcx: bigint | number = At.a): number => rig.call({ protocol: 2, call: 1, rcx }).result;
const command = (of: string, { platform = 8, locality = 0, size = of.length / 2 } = {}): string => `${le32(platform)}${locality.toString(16).padStart(2, '0')}${le32(size)}${of}`;

describe('SVSM_VTPM_QUERY', () => {
  it('offers TPM_SEND_COMMAND alone, and no features', () => {
    expect(new SvsmRig({ vtpm: true }).call({ protocol: 2, call: 0, rcx: 5n, rdx: 6n })).toMatchObject({ result: 0, rcx: 0x100n, rdx: 0n });
  });
});

describe('SVSM_VTPM_CMD', () => {
  it('carries a command to the TPM and its response back; what lies behind stays', () => {
    const rig = rigWith(command(getRandom));
    rig.write(At.a + 100, Uint8Array.of(0xaa));
    expect(send(rig)).toBe(0);
    expect(rig.commands).toEqual([getRandom]);
    expect(hex(rig.read(At.a, 24))).toBe(`14000000${random}`);
    expect(rig.read(At.a + 100, 1)[0]).toBe(0xaa);
  });
  it('VMPL2 of the caller waits for the TPM at VMPL0, without another switch', () => {
    const rig = rigWith(command(getRandom));
    rig.switches.length = 0;
    send(rig);
    expect(rig.switches).toEqual(['0: 2>0 run-vmpl', '0: 0>2 run-vmpl']);
  });

  it.each([
    ['RCX 0', 0n, command(getRandom), R.InvalidParameter],
    ['buffer beyond memory: its first word cannot be read', At.memory, command(getRandom), R.InvalidParameter],
    ['first word in a page that is not valid', At.fresh, command(getRandom), R.InvalidParameter],
    ['first word in shared memory', At.shared, command(getRandom), R.InvalidParameter],
    ...([1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 21, 25, 26, 30, 0, 0xffff_ffff].map((platform) => [`platform command ${platform}`, At.a, command(getRandom, { platform }), R.InvalidParameter] as const)),
    ['buffer that leaves memory', At.memory - 4095, command(getRandom), R.InvalidAddress],
    ['locality 1', At.a, command(getRandom, { locality: 1 }), R.InvalidParameter],
    ['locality 255', At.a, command(getRandom, { locality: 255 }), R.InvalidParameter],
    ['size 4088', At.a, command(getRandom, { size: 4088 }), R.InvalidParameter],
    ['size of all ones', At.a, command(getRandom, { size: 0xffff_ffff }), R.InvalidParameter],
    ['size 0', At.a, command(getRandom, { size: 0 }), R.InvalidRequest],
  ] as const)('%s', (_what, rcx, buffer, result) => {
    const rig = rigWith(buffer);
    if (Number(rcx) >= At.memory - 4096 && Number(rcx) < At.memory) {
      rig.rmp.launch((At.memory - 4096) / 4096, [0, 0xf, 0], false);
      rig.write(Number(rcx), bytes(buffer));
    }
    expect(`0x${send(rig, rcx).toString(16)}`).toBe(`0x${result.toString(16)}`);
    expect(rig.commands).toEqual([]);
  });

  it('the longest command has 4087 bytes', () => {
    const rig = rigWith(command(getRandom, { size: 4087 }));
    expect(send(rig)).toBe(0);
    expect(rig.commands[0]!.length).toBe(4087 * 2);
  });
  it('the buffer need not be aligned and may cross a page', () => {
    const rig = rigWith(command(getRandom), random, {}, At.a + 0x7ff);
    expect(send(rig, At.a + 0x7ff)).toBe(0);
    expect(hex(rig.read(At.a + 0x7ff, 4))).toBe('14000000');
  });
  it('the buffer must not touch the head of a calling area', () => {
    const rig = rigWith(command(getRandom), random, {}, At.caa - 16);
    expect(send(rig, At.caa - 16)).toBe(R.InvalidAddress);
  });
  it('a command longer than its inner size is the business of the TPM', () => {
    const rig = rigWith(command(`${getRandom}00`), '80010000000a00000142');
    expect(send(rig)).toBe(0);
    expect(hex(rig.read(At.a, 14))).toBe('0a00000080010000000a00000142');
  });
  it('a TPM that is off', () => expect(send(rigWith(command(getRandom), null))).toBe(R.InvalidRequest));
  it('a response of 4092 bytes fills the buffer', () => {
    const rig = rigWith(command(getRandom), 'ab'.repeat(4092));
    expect(send(rig)).toBe(0);
    expect(rig.read(At.a + 4095, 1)[0]).toBe(0xab);
  });
  it('a response that does not fit is refused, and the buffer keeps the command', () => {
    const rig = rigWith(command(getRandom), 'ab'.repeat(4093));
    expect(send(rig)).toBe(R.InvalidRequest);
    expect(hex(rig.read(At.a, 21))).toBe(command(getRandom));
  });
  it('as COCONUT does it, it is left out without a word', () => {
    const rig = rigWith(command(getRandom), 'ab'.repeat(4093), { svsmDeviations: ['tpmOversize'] });
    expect(send(rig)).toBe(0);
    expect(hex(rig.read(At.a, 21))).toBe(command(getRandom));
  });
  it('a buffer that stopped being valid meanwhile gets nothing', () => {
    const rig = rigWith(command(getRandom));
    const reply = rig.machine.reply.bind(rig.machine);
    rig.machine.reply = (context, answer) => {
      rig.rmp.set(At.a / 4096, 1, { validated: false });
      reply(context, answer);
    };
    expect(send(rig)).toBe(R.InvalidAddress);
  });
});
