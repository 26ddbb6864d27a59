import { describe, expect, it } from 'vitest';
import { findCommand, type Host, skipNote, systemTool } from './system-tool.ts';

/** A host on which installing a package makes its command appear, or does not. */
function hostWith(options: { isDebianRoot: boolean; canInstall?: boolean; present?: readonly string[] }): Host & { readonly installed: readonly string[] } {
  const present = new Set(options.present);
  const installed: string[] = [];
  return {
    isDebianRoot: options.isDebianRoot,
    installed,
    find: (command) => (present.has(command) ? `/usr/bin/${command}` : undefined),
    install(debianPackage) {
      installed.push(debianPackage);
      if (options.canInstall === true) present.add('gdb');
      return options.canInstall === true;
    },
  };
}
const source = { debianPackage: 'gdb-minimal', command: 'gdb' };

describe('systemTool', () => {
  it.each([
    ['present', hostWith({ isDebianRoot: false, present: ['gdb'] }), true, []],
    ['present for root: nothing is installed', hostWith({ isDebianRoot: true, present: ['gdb'] }), true, []],
    ['missing, not root', hostWith({ isDebianRoot: false }), false, []],
    ['missing, installed', hostWith({ isDebianRoot: true, canInstall: true }), true, ['gdb-minimal']],
    ['missing, installation failed', hostWith({ isDebianRoot: true, canInstall: false }), false, ['gdb-minimal']],
  ])('%s', (_name, host, isMet, installed) => {
    expect(systemTool('gdb', source, host).isMet).toBe(isMet);
    expect(host.installed).toEqual(installed);
  });

  it('finds what is in PATH and nothing else', () => {
    expect(findCommand('sh')).toMatch(/\/sh$/);
    expect(findCommand('no-such-command')).toBeUndefined();
    expect(findCommand('sh', '')).toBeUndefined();
  });

  it('says why and what to do', () => expect(skipNote('gdb is not installed', 'apt-get install -y gdb')).toBe('gdb is not installed; to enable: apt-get install -y gdb'));
});
