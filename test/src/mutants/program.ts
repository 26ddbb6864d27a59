import { relative } from 'node:path';
import { readText, root } from '../support/source.ts';
import { bundle, type External } from './bundle.ts';
import { boundLoops, instrument, type Mutation, MutationList } from './instrument.ts';
import { vocabularyOf } from './operators.ts';
import { parse } from './syntax.ts';

/** The sources under test with all their changes, and the scripts made of them. */
export class MutatedSources {
  readonly #texts = new Map<string, string>();
  readonly mutations: readonly Mutation[];
  /** Modules outside the workspace, known once the test files that need them were bundled. */
  readonly externals = new Map<string, External>();

  constructor(files: readonly string[]) {
    const list = new MutationList();
    const words = vocabularyOf(files.map((file) => parse(file, readText(file))));
    for (const file of files) this.#texts.set(file, instrument(file, readText(file), words, list));
    this.mutations = list.all;
  }

  /** Bundles a test file with every change in it, and marks that record what it reaches. @throws {Error} when it cannot be bundled. */
  script(file: string): Promise<string> {
    const text = (path: string): string => {
      const inside = relative(root, path);
      return this.#texts.get(inside) ?? boundLoops(inside, readText(inside));
    };
    return bundle(root, `${root}/${file}`, text, this.externals);
  }
}
