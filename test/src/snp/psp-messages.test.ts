import { FirmwareStatus } from '@vmplanes/abi-sev-snp';
import { hexBytes, parseHexBytes } from '@vmplanes/binary';
import { GuestState, unsupportedRequests } from '@vmplanes/personality-sev-snp-vmpl';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Message, PspGuest, runningProcessor, seal, unseal } from './psp-guest.ts';

const KEY = Uint8Array.from({ length: 32 }, (_, i) => i);
const REPORT: Message = { type: 5, version: 1, vmpck: 0, sequence: 1n, payload: new Uint8Array(96) };

const processor = (): ReturnType<typeof runningProcessor> => {
  const psp = runningProcessor({ signing: 'none' });
  psp.guest.keys[0] = KEY;
  return psp;
};
/** Status of the command for one page, and whether anything changed. */
function sent(psp: ReturnType<typeof runningProcessor>, page: Uint8Array): { readonly error: number; readonly untouched: boolean } {
  const before = [...psp.guest.sequences];
  const response = new Uint8Array(4096).fill(0xa5);
  const error = psp.message(page, response);
  return { error, untouched: response.every((b) => b === 0xa5) && before.every((s, i) => s === psp.guest.sequences[i]) };
}

describe('the message of the test vector', () => {
  const page = seal(KEY, REPORT);

  it('is what the specification prints', () => {
    expect(hexBytes(page.subarray(0x30, 0x60))).toBe('0101600005016000' + '00'.repeat(40));
    expect(hexBytes(page.subarray(0, 32))).toBe('f82ad6a7637d3333e57fd9adeb832a0f' + '00'.repeat(16));
    expect(hexBytes(page.subarray(0x60, 0x70))).toBe('e22c823fa4afec074a0405c33cc188cb');
  });

  it('is accepted and answered under the next number', () => {
    const psp = processor();
    const response = new Uint8Array(4096).fill(0xa5);
    expect(psp.message(page, response)).toBe(FirmwareStatus.Success);
    const answer = unseal(KEY, response);
    expect({ ...answer, payload: answer.payload.length }).toEqual({ type: 6, version: 1, vmpck: 0, sequence: 2n, payload: 32 + 0x4a0 });
    // Nothing of the page's former contents is left behind the message.
    expect(response.subarray(0x60 + answer.payload.length).every((b) => b === 0)).toBe(true);
    expect(response.subarray(16, 32).every((b) => b === 0)).toBe(true);
  });
});

describe('sequence numbers', () => {
  it('go by two for each key alone', () => {
    const psp = runningProcessor({ signing: 'none' });
    const guest = new PspGuest(psp);
    for (const vmpck of [0, 0, 2, 0, 2]) expect(guest.send(5, Buffer.concat([Buffer.alloc(64), Buffer.from([vmpck]), Buffer.alloc(31)]), { vmpck }).error).toBe(0);
    expect(psp.guest.sequences).toEqual([6n, 0n, 4n, 0n]);
    expect(guest.sequences).toEqual([7n, 1n, 5n, 1n]);
  });

  it.each([0n, 2n, 3n, 2n ** 64n - 1n])('a first message with number %s is refused', (sequence) => {
    expect(sent(processor(), seal(KEY, { ...REPORT, sequence }))).toEqual({ error: FirmwareStatus.InvalidParam, untouched: true });
  });

  it('a message sent again is refused', () => {
    const psp = processor();
    const page = seal(KEY, REPORT);
    expect(psp.message(page, new Uint8Array(4096))).toBe(FirmwareStatus.Success);
    expect(sent(psp, page)).toEqual({ error: FirmwareStatus.InvalidParam, untouched: true });
    expect(sent(psp, seal(KEY, { ...REPORT, sequence: 3n })).error).toBe(FirmwareStatus.Success);
  });

  it.each([
    ['the last pair of numbers is used', 2n ** 64n - 4n, FirmwareStatus.Success],
    ['no number is left for a response', 2n ** 64n - 2n, FirmwareStatus.AeadOverflow],
    ['no number is left', 2n ** 64n - 1n, FirmwareStatus.AeadOverflow],
  ])('%s', (_what, last, error) => {
    const psp = processor();
    psp.guest.sequences[0] = last;
    expect(sent(psp, seal(KEY, { ...REPORT, sequence: (last + 1n) & (2n ** 64n - 1n) }))).toEqual({ error, untouched: error !== FirmwareStatus.Success });
  });
});

describe('refused messages leave number and response page alone', () => {
  it.each<[string, (page: Buffer) => void]>([
    ['another algorithm', (p) => p.writeUInt8(2, 0x30)],
    ['no algorithm', (p) => p.writeUInt8(0, 0x30)],
    ['another header version', (p) => p.writeUInt8(2, 0x31)],
    ['another header size', (p) => p.writeUInt16LE(0x61, 0x32)],
    ['an empty payload', (p) => p.writeUInt16LE(0, 0x36)],
    ['a payload beyond the page', (p) => p.writeUInt16LE(4001, 0x36)],
    ['the longest number for a size', (p) => p.writeUInt16LE(0xffff, 0x36)],
    ['a fifth key', (p) => p.writeUInt8(4, 0x3c)],
    ['the highest key number', (p) => p.writeUInt8(0xff, 0x3c)],
    ['reserved bytes at 28h', (p) => p.writeUInt8(1, 0x2f)],
    ['reserved bytes at 38h', (p) => p.writeUInt8(1, 0x38)],
    ['reserved bytes at 3Dh', (p) => p.writeUInt8(1, 0x3d)],
    ['reserved bytes at 5Fh', (p) => p.writeUInt8(1, 0x5f)],
  ])('%s', (_what, damage) => {
    expect(sent(processor(), seal(KEY, REPORT, damage))).toEqual({ error: FirmwareStatus.InvalidParam, untouched: true });
  });

  it('under another key', () => expect(sent(processor(), seal(KEY.map((b) => b ^ 1), REPORT))).toEqual({ error: FirmwareStatus.InvalidKey, untouched: true }));
  it('under the key of another VMPL', () => {
    const psp = runningProcessor();
    expect(sent(psp, seal(psp.keys[1]!, REPORT))).toEqual({ error: FirmwareStatus.InvalidKey, untouched: true });
  });

  it('with any bit changed in what is authenticated', () => {
    const page = seal(KEY, REPORT);
    const psp = processor();
    // Tag, sequence number, authenticated header, payload.
    const bit = fc.oneof(fc.integer({ min: 0, max: 16 * 8 - 1 }), fc.integer({ min: 0x20 * 8, max: 0x28 * 8 - 1 }), fc.integer({ min: 0x30 * 8, max: (0x60 + 96) * 8 - 1 }));
    fc.assert(
      fc.property(bit, (n) => {
        const changed = page.slice();
        changed[n >> 3] = changed[n >> 3]! ^ (1 << (n & 7));
        const { error, untouched } = sent(psp, changed);
        expect([error !== FirmwareStatus.Success, untouched]).toEqual([true, true]);
      }),
      { numRuns: 500 },
    );
    expect(sent(psp, page).error).toBe(FirmwareStatus.Success);
  });

  it.each([GuestState.Init, GuestState.Launching])('in state %s', (state) => {
    const psp = processor();
    psp.guest.state = state;
    expect(sent(psp, seal(KEY, REPORT))).toEqual({ error: FirmwareStatus.InvalidGuestState, untouched: true });
  });

  it.each([7, 9, 11, 13, 15])('type %i: unsupported by name', (type) => {
    expect(sent(processor(), seal(KEY, { ...REPORT, type }))).toEqual({ error: FirmwareStatus.Unsupported, untouched: true });
    expect(unsupportedRequests).toContain(type);
  });
  it('no other type is unsupported', () => expect([...unsupportedRequests].sort((a, b) => a - b)).toEqual([7, 9, 11, 13, 15]));
  it.each([0, 2, 4, 6, 8, 18, 19, 20, 255])('type %i: no request', (type) => {
    expect(sent(processor(), seal(KEY, { ...REPORT, type }))).toEqual({ error: FirmwareStatus.InvalidParam, untouched: true });
  });

  it.each([
    [5, 1, 95], [5, 1, 97], [5, 2, 96], [5, 0, 96], [3, 1, 31], [3, 1, 33], [3, 1, 40], [3, 2, 32], [3, 2, 41], [3, 3, 40], [17, 1, 127], [17, 1, 129], [17, 2, 128], [1, 1, 15], [1, 1, 17], [1, 2, 16],
  ])('type %i version %i of %i bytes', (type, version, size) => {
    expect(sent(processor(), seal(KEY, { ...REPORT, type, version, payload: new Uint8Array(size) }))).toEqual({ error: FirmwareStatus.InvalidParam, untouched: true });
  });
});

describe('whatever a guest sends', () => {
  const random = fc.record({ type: fc.nat(20), version: fc.nat(3), vmpck: fc.nat(5), sequence: fc.constantFrom(1n, 1n, 1n, 2n), payload: fc.oneof(fc.uint8Array({ minLength: 1, maxLength: 200 }), fc.constantFrom(16, 32, 40, 64, 96, 128).map((n) => new Uint8Array(n))) });

  it('ends with a status, and the same one each time', () => {
    fc.assert(
      fc.property(random, (message) => {
        const [a, b] = [processor(), processor()];
        const page = seal(a.guest.keys[message.vmpck] ?? KEY, message);
        const [responseA, responseB] = [new Uint8Array(4096), new Uint8Array(4096)];
        const error = a.message(page, responseA);
        expect([b.message(page, responseB), responseB]).toEqual([error, responseA]);
        expect(a.guest.sequences.reduce((x, y) => x + y)).toBe(error === 0 ? 2n : 0n);
      }),
    );
  });

  it('bytes that are no message are refused', () => {
    // Shrinking a page takes longer than reading it.
    const bytes = fc.infiniteStream(fc.nat(255)).map((stream) => Uint8Array.from(stream.take(4096)));
    fc.assert(
      fc.property(fc.noShrink(bytes), (page) => {
        expect(sent(processor(), page)).toEqual({ error: FirmwareStatus.InvalidParam, untouched: true });
      }),
      { numRuns: 50 },
    );
  });
});

describe('the state of the security processor', () => {
  it('goes on in another one from where it was saved', () => {
    const psp = runningProcessor();
    const guest = new PspGuest(psp);
    guest.report();
    guest.report({ vmpl: 3, vmpck: 3 });
    const saved = structuredClone(psp.save());
    const other = runningProcessor();
    other.restore(saved);
    expect(other.guest).toEqual(psp.guest);
    const request = seal(psp.keys[0]!, { ...REPORT, sequence: 3n });
    const [a, b] = [new Uint8Array(4096), new Uint8Array(4096)];
    expect([psp.message(request, a), other.message(request, b)]).toEqual([0, 0]);
    expect(a).toEqual(b);
    // What was saved is a copy: going on has not changed it.
    expect((saved as { sequences: bigint[] }).sequences).toEqual([2n, 0n, 0n, 2n]);
  });

  it.each([
    ['a field that is missing', { sequences: undefined }],
    ['three keys', { keys: [KEY, KEY, KEY] }],
    ['a digest of another length', { digest: parseHexBytes('00') }],
    ['a policy that is no number of 64 bits', { policy: 3 }],
  ])('refuses %s and keeps its own', (_what, change) => {
    const psp = runningProcessor();
    const before = structuredClone(psp.guest);
    expect(() => psp.restore({ ...(psp.save() as object), ...change })).toThrow(expect.objectContaining({ code: 'BadSnapshot' }));
    expect(psp.guest).toEqual(before);
  });
});
