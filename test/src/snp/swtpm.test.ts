import { HostServices, Swtpm } from '@vmplanes/vmm';
import { afterEach, describe, expect, it } from 'vitest';
import { systemTool } from '../support/system-tool.ts';

const tool = systemTool('swtpm', { debianPackage: 'swtpm', command: 'swtpm' });

/** Several processes start in a test, and a busy host lets each wait: only the limits of the service count. */
const TEST_MS = 240_000;

// TPM 2.0 Library part 3; numbers of part 2.
const startup = '80010000000c000001440000';
const getRandom = (bytes: number): string => `80010000000c0000017b${bytes.toString(16).padStart(4, '0')}`;
/** PCR_Extend of PCR 0 with a SHA-256 digest, under an empty password. */
const extend = (digest: string): string => `80020000004100000182${'00000000'}${'00000009'}${'4000000900000000' + '00'}${'00000001'}000b${digest}`;
const readPcr0 = '8001000000140000017e00000001000b03010000';

describe('the service that is a TPM', () => {
  const open: Swtpm[] = [];
  const make = (): Swtpm => {
    const tpm = new Swtpm();
    open.push(tpm);
    return tpm;
  };
  afterEach(() => open.splice(0).forEach((tpm) => tpm.close()));
  /** The response, or why there is none. */
  const ask = async (tpm: Swtpm, command: string): Promise<string> => {
    const { response, error } = await tpm.ask({ command });
    return String(response ?? error);
  };

  tool.it('answers commands in order, and says what the TPM says of bad ones', async () => {
    const tpm = make();
    expect(await ask(tpm, getRandom(8))).toBe('80010000000a00000100');
    expect(await ask(tpm, startup)).toBe('80010000000a00000000');
    expect(await ask(tpm, getRandom(8))).toMatch(/^800100000014000000000008[0-9a-f]{16}$/);
    // The size in the command is not that of the bytes. @spec TPM 2.0 Library part 2, TPM_RC_COMMAND_SIZE
    expect(await ask(tpm, '80010000000d0000017b0008')).toMatch(/^80010000000a0000014[0-9a-f]$|^80010000000a0000009a$/);
    expect(await ask(tpm, '80010000000a0000ffff')).toBe('80010000000a00000143');
  }, TEST_MS);

  tool.it('gives its state to a snapshot and goes on from it in another process', async () => {
    const tpm = make();
    await ask(tpm, startup);
    expect(await ask(tpm, extend('11'.repeat(32)))).toMatch(/^8002000000[0-9a-f]{2}00000000/);
    const before = await ask(tpm, readPcr0);
    const saved = tpm.save();
    await ask(tpm, extend('22'.repeat(32)));
    expect(await ask(tpm, readPcr0)).not.toBe(before);
    const other = make();
    other.restore(saved);
    expect(await ask(other, readPcr0)).toBe(before);
  }, TEST_MS);

  it('needs a command', async () => {
    expect(await make().ask({})).toEqual({ error: 'a request to a TPM without a command' });
  });
});

describe('host services', () => {
  it('refuses a name that it does not know', () => {
    expect(() => new HostServices(['tmp'])).toThrow(expect.objectContaining({ code: 'NoService', message: expect.stringContaining("did you mean 'tpm'?") }));
  });
  it('says at once that a program is missing, and how to get it', () => {
    const path = process.env['PATH'];
    process.env['PATH'] = '/nowhere';
    try {
      expect(() => new HostServices(['tpm'])).toThrow(expect.objectContaining({ code: 'NoService', message: expect.stringContaining('apt-get install -y swtpm') }));
    } finally {
      process.env['PATH'] = path;
    }
  });
  it('answers nothing to a guest that was configured without the service', async () => {
    expect(await new HostServices([]).ask({ kind: 'service', service: 'tpm', request: {} })).toBeNull();
  });
});
