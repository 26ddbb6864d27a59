import { expect, it, vi } from 'vitest';
import { embed } from './embed.ts';

it('a program embeds a VM without knowing the container', async () => {
  const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  try {
    // The reset vector, three instructions of a byte each.
    expect(await embed()).toBe(`finished, RIP ${0xfff0 + 3}`);
    expect(write.mock.calls.map(([text]) => text)).toEqual(['VP 0 plane 0: io\n']);
  } finally {
    write.mockRestore();
  }
});
